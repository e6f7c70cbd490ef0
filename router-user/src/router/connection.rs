//! The path of one connection, top to bottom: admit, peek, route, then passthrough, hand-off or rejection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use ::connection::limits::{Admission, Exceeded};
use ::connection::{Alert, ConnectionId};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::accept::Held;
use super::access::AccessRecord;
use super::lazy_stream::LazyStream;
use super::outcome::{ConnectionOutcome, HelloOutcome, Mode, Shortage};
use super::peek::{Hello, PeekError};
use super::proxy_header::{self, Addresses};
use super::rejection::{Answer, Rejection};
use super::site::{Destination, Listening};
use super::sources::SourceAdmission;
use super::worker::Worker;
use super::{passthrough, reject, terminate};
use crate::routing::{Decision, Question, admits};

/// What is known of a connection before its hello.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Its number in logs and hand-offs.
    pub(super) id: ConnectionId,
    /// The name of the listener that accepted it.
    pub(super) listener: Rc<str>,
    /// Who connected, IPv4 as IPv4 also on a dual-stack socket.
    pub(super) peer: SocketAddr,
    /// The same; where a trusted sender says who the client is, what that says.
    pub(super) client: SocketAddr,
    /// Where the client connected to, if a trusted sender said so.
    pub(super) told_local: Option<SocketAddr>,
    /// Whether a trusted sender's header is no longer in the socket.
    pub(super) is_header_taken: bool,
    /// Whether it was let in by its source's bounds, and counts there.
    pub(super) is_source_admitted: bool,
    /// When accept(2) returned.
    pub(super) accepted: Instant,
    /// The same moment for people.
    pub(super) accepted_at: SystemTime,
    /// When hello, route and hand-off must be done.
    pub(super) deadline: Instant,
}

impl Arrival {
    /// Where the client connected to, IPv4 as IPv4.
    pub(super) fn local(&self, stream: &LazyStream) -> io::Result<SocketAddr> {
        if let Some(local) = self.told_local {
            return Ok(local);
        }
        let local = stream.local_addr()?;
        Ok(SocketAddr::new(local.ip().to_canonical(), local.port()))
    }
}

/// A connection of which nothing has been read but a trusted sender's header.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) stream: LazyStream,
    pub(super) arrival: Arrival,
    pub(super) held: Held,
}

/// Serves one connection to its end.
pub(super) async fn serve(worker: &Worker, listening: Listening, stream: LazyStream, peer: SocketAddr, held: Held) {
    let accepted = Instant::now();
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let arrival = Arrival {
        id: worker.ids.next(),
        listener: Rc::clone(listening.name()),
        peer,
        client: peer,
        told_local: None,
        is_header_taken: false,
        is_source_admitted: false,
        accepted,
        accepted_at: SystemTime::now(),
        deadline: accepted + listening.settings().client_hello.timeout,
    };
    serve_unread(worker, listening, Unread { stream, arrival, held }).await;
}

/// The same, here or where it is handed over to.
pub(super) async fn serve_unread(worker: &Worker, listening: Listening, unread: Unread) {
    let Some(mut unread) = walk(worker, listening, unread).await else { return };
    while let Err(back) = worker.shared.hand_over.unread(unread).await {
        // Nobody takes it, so it begins anew.
        let Some(listening) = Listening::at(worker.site(), Rc::clone(&back.arrival.listener)) else { return };
        match walk(worker, listening, back).await {
            Some(again) => unread = again,
            None => return,
        }
    }
}

/// The path, top to bottom. Gives the connection back, still unread, when it is to be handed over to another process.
async fn walk(worker: &Worker, mut listening: Listening, unread: Unread) -> Option<Unread> {
    let Unread { mut stream, mut arrival, mut held } = unread;
    let listener = listening.settings();
    let trusted = listener.proxy_protocol_from.iter().any(|prefix| prefix.contains(&arrival.peer.ip()));
    if trusted && !arrival.is_header_taken {
        let awaited = register(worker, stream)?;
        let taken = peek(worker, &arrival, proxy_header::take(&awaited)).await;
        stream = LazyStream::Registered(awaited);
        match taken {
            Ok(addresses) => {
                arrival.is_header_taken = true;
                if let Some(Addresses { client, local }) = addresses {
                    (arrival.client, arrival.told_local) = (client, Some(local));
                }
            }
            Err(NoHello::HandOver) => return Some(Unread { stream, arrival, held }),
            Err(NoHello::Refused(rejection, reason)) => {
                let record = AccessRecord::new(worker, &arrival);
                return refuse(worker, stream, record, rejection, reason).await;
            }
        }
    }
    let mut record = AccessRecord::new(worker, &arrival);
    if !admits(&listener.clients, arrival.client.ip()) {
        let denied = Rejection::alert(ConnectionOutcome::ClientDenied, Alert::AccessDenied);
        return refuse(worker, stream, record, denied, "the listener denies this client".to_owned()).await;
    }
    if !arrival.is_source_admitted {
        match admit_source(worker, &listening, arrival.client.ip()) {
            Ok(source) => (held.source, arrival.is_source_admitted) = (source, true),
            Err((rejection, reason)) => return refuse(worker, stream, record, rejection, reason.to_owned()).await,
        }
    }
    let peeked = match listening.peeker().look(&stream) {
        Some(peeked) => peeked.map_err(|error| NoHello::because_of(worker, error)),
        None => {
            let awaited = register(worker, stream)?;
            let peeked = peek(worker, &arrival, listening.peeker().peek(&awaited)).await;
            stream = LazyStream::Registered(awaited);
            peeked
        }
    };
    let hello = match peeked {
        Ok(hello) => hello,
        Err(NoHello::HandOver) => return Some(Unread { stream, arrival, held }),
        Err(NoHello::Refused(rejection, reason)) => return refuse(worker, stream, record, rejection, reason).await,
    };
    worker.counters.hello(HelloOutcome::Ok);
    worker.counters.hello_bytes.observe(hello.bytes as f64);
    worker.counters.hello_seconds.observe(arrival.accepted.elapsed().as_secs_f64());
    record.hello(&hello);
    // A reload since the accept counts: its routes and its terminators belong together.
    listening.refresh(worker.site());
    let (tenant, mode) = match route(&listening, &arrival, &hello) {
        Decision::Passthrough { tenant, .. } => (tenant, Mode::Passthrough),
        Decision::Terminate { tenant, .. } => (tenant, Mode::Terminate),
        Decision::Reject(refusal) => {
            let reason = refusal.describe().to_owned();
            return refuse(worker, stream, record, Rejection::of_refusal(refusal), reason).await;
        }
    };
    let destination = listening.site.destination(tenant);
    // A connection that lives long does not keep a whole configuration with it.
    drop(listening);
    record.tenant(&destination.tenant.settings);
    let admission = match destination.tenant.limits.admit() {
        Ok(admission) => admission,
        Err(exceeded) => {
            fail(stream, record, &destination, over_limit(mode, exceeded)).await;
            return None;
        }
    };
    match mode {
        Mode::Passthrough => {
            let occupied = Occupied { admission, held };
            passthrough::serve(worker, &destination, stream, arrival, record, occupied).await
        }
        _ => {
            let hand_over = worker.shared.hand_over.begun_for(&arrival.listener);
            let stream = terminate::serve(&destination, stream, &arrival, &hello, record, hand_over).await?;
            Some(Unread { stream, arrival, held })
        }
    }
}

/// Before anything is read: a source over its bounds costs next to nothing.
fn admit_source(
    worker: &Worker,
    listening: &Listening,
    client: IpAddr,
) -> Result<Option<SourceAdmission>, (Rejection, &'static str)> {
    let Some((bounds, sources)) = listening.sources() else { return Ok(None) };
    let (outcome, reason) = match sources.admit(bounds, client) {
        Ok(Some(source)) => return Ok(Some(source)),
        Ok(None) => {
            worker.counters.sources_not_counted.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        Err(Exceeded::Connections) => (ConnectionOutcome::SourceMaxConnections, "perSource.maxConnections is reached"),
        Err(Exceeded::Rate) => (ConnectionOutcome::SourceConnectionRate, "perSource.connectionRate is reached"),
    };
    Err((Rejection { outcome, answer: Answer::AlertInPassing(Alert::InternalError) }, reason))
}

/// What is given back at the connection's end, whoever sees it.
#[derive(Debug)]
pub(super) struct Occupied {
    /// One of the tenant's connections.
    pub(super) admission: Admission,
    /// One of the listener's and of the worker's.
    pub(super) held: Held,
}

fn over_limit(mode: Mode, exceeded: Exceeded) -> TenantFailure {
    let (outcome, reason) = match exceeded {
        Exceeded::Connections => (ConnectionOutcome::MaxConnections, "limits.maxConnections is reached"),
        Exceeded::Rate => (ConnectionOutcome::ConnectionRate, "limits.connectionRate is reached"),
    };
    TenantFailure { mode, outcome, reason: reason.to_owned() }
}

/// Why there is no header or hello to go on with.
enum NoHello {
    /// The client gets this answer, for this reason.
    Refused(Rejection, String),
    /// Another process waits for it instead.
    HandOver,
}

impl NoHello {
    /// Counts it.
    fn because_of(worker: &Worker, error: PeekError) -> Self {
        let reason = error.to_string();
        let (outcome, rejection) = match error {
            PeekError::Malformed(why) => (HelloOutcome::Malformed, Rejection::of_malformed(&why)),
            PeekError::NotTls(kind) => {
                let rejection = Rejection::of_not_tls(kind);
                let plain_http = rejection.answer == Answer::PlainHttp400;
                (if plain_http { HelloOutcome::PlainHttp } else { HelloOutcome::NotTls }, rejection)
            }
            PeekError::TooLarge => {
                (HelloOutcome::TooLarge, Rejection::alert(ConnectionOutcome::TooLarge, Alert::DecodeError))
            }
            PeekError::ProxyHeader(_) => (HelloOutcome::ProxyHeader, Rejection::silent(ConnectionOutcome::ProxyHeader)),
            PeekError::Closed => (HelloOutcome::ClientClosed, Rejection::silent(ConnectionOutcome::ClientClosed)),
            PeekError::Socket(_) => (HelloOutcome::ClientReset, Rejection::silent(ConnectionOutcome::ClientReset)),
        };
        worker.counters.hello(outcome);
        Self::Refused(rejection, reason)
    }
}

/// A connection that has to be waited for. Where the kernel has no memory for that it is closed.
fn register(worker: &Worker, stream: LazyStream) -> Option<TcpStream> {
    let failed = |error: &io::Error| {
        if let Some(shortage) = Shortage::of_accept(error) {
            worker.counters.accept_failed(shortage);
        }
        debug!(%error, "a connection that nobody can wait for");
    };
    stream.register().inspect_err(failed).ok()
}

/// Waits for the PROXY header or the hello within the deadline, and counts how that failed.
async fn peek<T>(
    worker: &Worker,
    arrival: &Arrival,
    peek: impl Future<Output = Result<T, PeekError>>,
) -> Result<T, NoHello> {
    // Each branch may be dropped: a peek leaves everything where it is.
    let peeked = tokio::select! {
        biased;
        peeked = timeout_at(arrival.deadline, peek) => peeked,
        () = worker.shared.drain.forced() => {
            worker.counters.hello(HelloOutcome::Drained);
            return Err(NoHello::Refused(Rejection::silent(ConnectionOutcome::Drained), "drained".to_owned()));
        }
        () = worker.shared.hand_over.begun_for(&arrival.listener) => return Err(NoHello::HandOver),
    };
    match peeked {
        Ok(Ok(peeked)) => Ok(peeked),
        Ok(Err(error)) => Err(NoHello::because_of(worker, error)),
        Err(_elapsed) => {
            worker.counters.hello(HelloOutcome::TooSlow);
            let rejection = Rejection::alert(ConnectionOutcome::TooSlow, Alert::DecodeError);
            Err(NoHello::Refused(rejection, "no whole ClientHello within clientHello.timeout".to_owned()))
        }
    }
}

fn route(listening: &Listening, arrival: &Arrival, hello: &Hello) -> Decision {
    let (listener, client) = (listening.settings(), arrival.client.ip());
    let policy = &listening.site.policy;
    policy.routing.decide(&policy.config, Question { listener, client, server_name: hello.server_name.as_deref() })
}

/// A connection whose tenant is known and cannot serve it.
#[derive(Debug)]
pub(super) struct TenantFailure {
    /// The tenant's mode.
    pub(super) mode: Mode,
    /// How it is counted.
    pub(super) outcome: ConnectionOutcome,
    /// Why, in words.
    pub(super) reason: String,
}

/// Counts and answers a connection that no tenant gets. Nothing is left of it.
async fn refuse(
    worker: &Worker,
    stream: LazyStream,
    mut record: AccessRecord<'_>,
    rejection: Rejection,
    reason: String,
) -> Option<Unread> {
    worker.counters.rejected(rejection.outcome);
    debug!(
        id = %record.id(),
        client = %record.client(),
        server_name = record.server_name().unwrap_or_default(),
        outcome = rejection.outcome.label(),
        reason,
        "rejected"
    );
    record.reason(reason);
    record.end(Mode::Reject.label(), rejection.outcome);
    reject::answer_and_close(stream, rejection.answer).await;
    None
}

/// Counts and answers a connection whose tenant cannot serve it: an internal_error, so that the client fails at once.
pub(super) async fn fail(
    stream: LazyStream,
    mut record: AccessRecord<'_>,
    destination: &Destination,
    failure: TenantFailure,
) {
    let TenantFailure { mode, outcome, reason } = failure;
    destination.counters.ended(outcome);
    let tenant = destination.tenant.settings.name.as_str();
    debug!(id = %record.id(), client = %record.client(), tenant, outcome = outcome.label(), reason, "failed");
    record.reason(reason);
    record.end(mode.label(), outcome);
    reject::answer_and_close(stream, Answer::Alert(Alert::InternalError)).await;
}
