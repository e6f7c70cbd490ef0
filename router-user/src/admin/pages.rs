//! The pages of the admin endpoint: paths to answers.

use connection::DrainPhase;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use serde::Serialize;

use super::terminators::Terminators;
use super::{AdminState, Others};
use crate::demand::{self, Command, demand_socket};
use crate::metrics::report;
use crate::status;

type Page = Response<Full<Bytes>>;

/// Answers one request. Nothing changes at the address, so only GET and HEAD exist there; whoever may open the socket in the
/// runtimeDir can also ask for what signals ask for.
pub(super) async fn answer(state: &AdminState, others: &Others, request: &Request<Incoming>, way: Way) -> Page {
    let Others { terminators, prober } = others;
    if let (Way::Socket, &Method::POST) = (way, request.method()) {
        return command(state, request.uri().path()).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "this endpoint is read-only: GET or HEAD\n".to_owned());
        page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return page;
    }
    match request.uri().path() {
        "/" => text(StatusCode::OK, INDEX.to_owned()),
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => readiness(state),
        "/metrics" => {
            let policy = state.shared.policy.current();
            let (reports, probed) = tokio::join!(terminators.reports(&policy), prober.report(&policy));
            let counters = &state.counters;
            let mut page = text(StatusCode::OK, report(&state.shared, &policy, counters, &reports, probed.as_ref()));
            page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROMETHEUS_TEXT));
            page
        }
        "/v1/tenants" => {
            let policy = state.shared.policy.current();
            let reports = terminators.reports(&policy).await;
            json(&status::tenants(&state.shared, &policy, &state.counters, &reports))
        }
        "/v1/certificates" => {
            let policy = state.shared.policy.current();
            let (reports, probed) = tokio::join!(terminators.reports(&policy), prober.report(&policy));
            json(&status::certificates(&policy, &reports, probed.as_ref()))
        }
        "/v1/backends" => {
            let policy = state.shared.policy.current();
            json(&status::backends(&policy, &terminators.reports(&policy).await))
        }
        path if path.starts_with(CA_PAGES) => authorities(state, terminators, &path[CA_PAGES.len()..]).await,
        path => text(StatusCode::NOT_FOUND, format!("no page {path}\n{INDEX}")),
    }
}

/// By which a request came.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// `admin.address`.
    Address,
    /// The socket in the runtimeDir.
    Socket,
}

/// Passes a command on to the supervisor. What becomes of a reload or a drain the log tells; an upgrade is waited for.
async fn command(state: &AdminState, path: &str) -> Page {
    let label = path.strip_prefix(COMMANDS).unwrap_or_default();
    let Some(command) = Command::ALL.into_iter().find(|command| command.label() == label) else {
        return text(StatusCode::NOT_FOUND, format!("no command {path}\n{INDEX}"));
    };
    if !state.shared.is_supervised {
        let why = "this router has no supervisor: it reloads by SIGHUP and drains by SIGTERM\n";
        return text(StatusCode::NOT_IMPLEMENTED, why.to_owned());
    }
    let socket = demand_socket(&state.shared.policy.current().config.runtime_dir);
    let ask = || demand::command(&socket, command);
    if command != Command::Upgrade {
        ask();
        return text(StatusCode::ACCEPTED, format!("{label}: asked for, the log tells what becomes of it\n"));
    }
    match state.shared.hand_over.outcome(ask).await {
        Ok(()) => text(StatusCode::OK, "upgraded: another router has taken over\n".to_owned()),
        Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("not upgraded: {why}\n")),
    }
}

fn readiness(state: &AdminState) -> Page {
    if state.shared.drain.phase() != DrainPhase::Running {
        text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned())
    } else {
        text(StatusCode::OK, "ready\n".to_owned())
    }
}

/// What the clients of one tenant are told to trust.
async fn authorities(state: &AdminState, terminators: &Terminators, name: &str) -> Page {
    let policy = state.shared.policy.current();
    let Some(tenant) = policy.config.tenants.iter().position(|tenant| tenant.name == name) else {
        return text(StatusCode::NOT_FOUND, format!("no tenant {name}\n"));
    };
    match terminators.report(&policy, tenant).await.and_then(|report| report.status) {
        Some(status) if !status.ca_bundle.is_empty() => {
            let mut page = text(StatusCode::OK, status.ca_bundle);
            page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PEM));
            page
        }
        Some(_) => text(
            StatusCode::NOT_FOUND,
            format!("tenant {name} advertises no CA: its issuer's is for clients to know\n"),
        ),
        None => text(StatusCode::SERVICE_UNAVAILABLE, format!("the terminator of tenant {name} does not answer\n")),
    }
}

fn json(document: &impl Serialize) -> Page {
    match serde_json::to_string(document) {
        Ok(body) => {
            let mut page = text(StatusCode::OK, body + "\n");
            page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            page
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Page {
    let mut page = Response::new(Full::new(Bytes::from(body)));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    page
}

const INDEX: &str = "sni-router\n\
    /healthz   200 while the process lives\n\
    /readyz    200 while listeners accept, 503 while draining\n\
    /metrics   Prometheus text format\n\
    /v1/tenants        connections and terminators, as JSON\n\
    /v1/certificates   what the terminators serve with, and what probed backends show\n\
    /v1/backends       where connections go\n\
    /v1/ca/NAME        the CAs that clients of a tenant are told to trust, as PEM\n\
    At the socket in the runtimeDir also POST /v1/reload, /v1/drain, /v1/upgrade\n";

const COMMANDS: &str = "/v1/";

const CA_PAGES: &str = "/v1/ca/";

/// RFC 8555 section 9.1: certificates as PEM.
const PEM: &str = "application/pem-certificate-chain";

/// The content type of the text format (Prometheus, "Exposition formats").
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
