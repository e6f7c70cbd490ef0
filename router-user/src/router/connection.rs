//! The path of one connection, top to bottom: admit, peek, route, then passthrough, hand-off or rejection.

use std::net::SocketAddr;
use std::time::SystemTime;

use ::connection::{Alert, ConnectionId};
use config::Listener;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::access::AccessRecord;
use super::outcome::{ConnectionOutcome, HelloOutcome, Mode};
use super::peek::{Hello, PeekError};
use super::rejection::{Answer, Rejection};
use super::worker::Worker;
use super::{passthrough, reject, terminate};
use crate::routing::{Decision, Question, admits};

/// What is known of a connection before its hello.
#[derive(Debug)]
pub(super) struct Arrival<'w> {
    /// Its number in logs and hand-offs.
    pub(super) id: ConnectionId,
    /// The listener that accepted it.
    pub(super) listener: &'w Listener,
    /// The listener's index.
    pub(super) listener_index: usize,
    /// The client, IPv4 as IPv4 also on a dual-stack socket.
    pub(super) client: SocketAddr,
    /// When accept(2) returned.
    pub(super) accepted: Instant,
    /// The same moment for people.
    pub(super) accepted_at: SystemTime,
    /// When hello, route and hand-off must be done.
    pub(super) deadline: Instant,
}

/// Serves one connection to its end.
pub(super) async fn serve(worker: &Worker, listener_index: usize, stream: TcpStream, client: SocketAddr) {
    let listener = &worker.shared.config.listeners[listener_index];
    let accepted = Instant::now();
    let arrival = Arrival {
        id: worker.ids.next(),
        listener,
        listener_index,
        client: SocketAddr::new(client.ip().to_canonical(), client.port()),
        accepted,
        accepted_at: SystemTime::now(),
        deadline: accepted + listener.client_hello.timeout,
    };
    let mut record = AccessRecord::new(worker, &arrival);
    if !admits(&listener.clients, arrival.client.ip()) {
        let denied = Rejection::alert(ConnectionOutcome::ClientDenied, Alert::AccessDenied);
        return refuse(worker, stream, record, denied, "the listener denies this client".to_owned()).await;
    }
    let hello = match peek(worker, &arrival, &stream).await {
        Ok(hello) => hello,
        Err((rejection, reason)) => return refuse(worker, stream, record, rejection, reason).await,
    };
    record.hello(&hello);
    match route(worker, &arrival, &hello) {
        Decision::Passthrough { tenant, .. } => {
            record.tenant(tenant);
            passthrough::serve(worker, tenant, stream, &arrival, record).await;
        }
        Decision::Terminate { tenant, .. } => {
            record.tenant(tenant);
            terminate::serve(worker, tenant, stream, &arrival, &hello, record).await;
        }
        Decision::Reject(refusal) => {
            let reason = refusal.describe().to_owned();
            refuse(worker, stream, record, Rejection::of_refusal(refusal), reason).await;
        }
    }
}

/// Waits for the hello within the deadline and counts how that ended.
async fn peek(worker: &Worker, arrival: &Arrival<'_>, stream: &TcpStream) -> Result<Hello, (Rejection, String)> {
    let peeker = &worker.peekers[arrival.listener_index];
    let peeked = tokio::select! {
        peeked = timeout_at(arrival.deadline, peeker.peek(stream)) => peeked,
        () = worker.shared.drain.forced() => {
            worker.counters.hello(HelloOutcome::Drained);
            return Err((Rejection::silent(ConnectionOutcome::Drained), "drained".to_owned()));
        }
    };
    let error = match peeked {
        Ok(Ok(hello)) => {
            worker.counters.hello(HelloOutcome::Ok);
            worker.counters.hello_bytes.observe(hello.bytes as f64);
            worker.counters.hello_seconds.observe(arrival.accepted.elapsed().as_secs_f64());
            return Ok(hello);
        }
        Ok(Err(error)) => error,
        Err(_elapsed) => {
            worker.counters.hello(HelloOutcome::TooSlow);
            let rejection = Rejection::alert(ConnectionOutcome::TooSlow, Alert::DecodeError);
            return Err((rejection, "no whole ClientHello within clientHello.timeout".to_owned()));
        }
    };
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
        PeekError::Closed => (HelloOutcome::ClientClosed, Rejection::silent(ConnectionOutcome::ClientClosed)),
        PeekError::Socket(_) => (HelloOutcome::ClientReset, Rejection::silent(ConnectionOutcome::ClientReset)),
    };
    worker.counters.hello(outcome);
    Err((rejection, reason))
}

fn route(worker: &Worker, arrival: &Arrival<'_>, hello: &Hello) -> Decision {
    let question =
        Question { listener: arrival.listener, client: arrival.client.ip(), server_name: hello.server_name.as_deref() };
    worker.shared.routing.decide(&worker.shared.config, question)
}

/// A connection whose tenant is known and cannot serve it.
#[derive(Debug)]
pub(super) struct TenantFailure {
    /// The tenant's index.
    pub(super) tenant: usize,
    /// The tenant's mode.
    pub(super) mode: Mode,
    /// How it is counted.
    pub(super) outcome: ConnectionOutcome,
    /// Why, in words.
    pub(super) reason: String,
}

/// Counts and answers a connection that no tenant gets.
async fn refuse(
    worker: &Worker,
    stream: TcpStream,
    mut record: AccessRecord<'_>,
    rejection: Rejection,
    reason: String,
) {
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
}

/// Counts and answers a connection whose tenant cannot serve it: an internal_error, so that the client fails at once.
pub(super) async fn fail(worker: &Worker, stream: TcpStream, mut record: AccessRecord<'_>, failure: TenantFailure) {
    let TenantFailure { tenant, mode, outcome, reason } = failure;
    worker.counters.tenants[tenant].ended(outcome);
    let tenant = worker.shared.config.tenants[tenant].name.as_str();
    debug!(id = %record.id(), client = %record.client(), tenant, outcome = outcome.label(), reason, "failed");
    record.reason(reason);
    record.end(mode.label(), outcome);
    reject::answer_and_close(stream, Answer::Alert(Alert::InternalError)).await;
}
