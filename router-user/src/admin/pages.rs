//! The pages of the admin endpoint: paths to answers.

use connection::DrainPhase;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::AdminState;
use super::terminators::Terminators;
use crate::metrics::report;

type Page = Response<Full<Bytes>>;

/// Answers one request. The endpoint changes nothing, so only GET and HEAD exist.
pub(super) async fn answer(state: &AdminState, terminators: &Terminators, request: &Request<Incoming>) -> Page {
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
            let reports = terminators.reports(&policy).await;
            let mut page = text(StatusCode::OK, report(&state.shared, &policy, &state.counters, &reports));
            page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROMETHEUS_TEXT));
            page
        }
        path => text(StatusCode::NOT_FOUND, format!("no page {path}\n{INDEX}")),
    }
}

fn readiness(state: &AdminState) -> Page {
    if state.shared.drain.phase() != DrainPhase::Running {
        text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned())
    } else {
        text(StatusCode::OK, "ready\n".to_owned())
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
    /metrics   Prometheus text format\n";

/// The content type of the text format (Prometheus, "Exposition formats").
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
