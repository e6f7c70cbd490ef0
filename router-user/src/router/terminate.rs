//! The terminate step: hand the unread socket to the tenant's terminator, then forget it.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, UNIX_EPOCH};

use ::connection::clock::monotonic_ns;
use ::connection::handoff::Handoff;
use config::ClientAddress;
use tokio::time::Instant;

use super::access::AccessRecord;
use super::connection::{Arrival, TenantFailure, fail};
use super::lazy_stream::LazyStream;
use super::outcome::{ConnectionOutcome, Mode};
use super::peek::Hello;
use super::site::Destination;
use super::transparent;

/// Hands the connection over. A terminator that cannot be reached within [`TERMINATOR_PATIENCE`] costs the client an
/// alert; one that can has the connection from here on, together with its access line. Gives it back when `interruption`
/// comes first.
pub(super) async fn serve(
    destination: &Destination,
    stream: LazyStream,
    arrival: &Arrival,
    hello: &Hello,
    record: AccessRecord<'_>,
    interruption: impl Future<Output = ()>,
) -> Option<LazyStream> {
    let decided = Instant::now();
    let is_on_demand = destination.terminator.as_ref().is_some_and(|terminator| terminator.is_on_demand());
    let patience = if is_on_demand { ON_DEMAND_PATIENCE } else { TERMINATOR_PATIENCE };
    let deadline = arrival.deadline.min(decided + patience);
    let source = match destination.tenant.settings.client_address {
        ClientAddress::Router => None,
        ClientAddress::Transparent => match transparent::bound_socket(arrival.client.ip()) {
            Ok(source) => Some(source),
            Err(error) => {
                let reason = format!("a socket with the client's address {}: {error}", arrival.client.ip());
                let outcome = ConnectionOutcome::ClientAddressFailed;
                fail(stream, record, destination, TenantFailure { mode: Mode::Terminate, outcome, reason }).await;
                return None;
            }
        },
    };
    let source = source.as_ref().map(AsFd::as_fd);
    let handed_over = match (&destination.terminator, describe(arrival, hello, &stream, source.is_some())) {
        (Some(link), Ok(handoff)) => {
            // Each branch may be dropped: a message is sent as a whole, in the poll that returns, or not at all.
            tokio::select! {
                biased;
                done = link.hand_over(&handoff, &stream, source, deadline) => done.map_err(|error| error.to_string()),
                () = interruption => return Some(stream),
            }
        }
        (None, _) => Err("the tenant has no terminator".to_owned()),
        (_, Err(error)) => Err(format!("read the local address: {error}")),
    };
    match handed_over {
        Ok(()) => {
            if let Some(seconds) = &destination.counters.handoff_seconds {
                seconds.observe(decided.elapsed().as_secs_f64());
            }
            destination.counters.ended(ConnectionOutcome::Ok);
        }
        Err(reason) => {
            let outcome = ConnectionOutcome::TerminatorUnavailable;
            fail(stream, record, destination, TenantFailure { mode: Mode::Terminate, outcome, reason }).await;
        }
    }
    None
}

fn describe(arrival: &Arrival, hello: &Hello, stream: &LazyStream, has_source_socket: bool) -> io::Result<Handoff> {
    let accepted_unix = arrival.accepted_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Handoff {
        id: arrival.id,
        listener: arrival.listener.to_string(),
        client: arrival.client,
        local: arrival.local(stream)?,
        server_name: hello.server_name.as_deref().map(str::to_owned),
        alpn: hello.alpn.clone(),
        ja4: hello.ja4.clone().unwrap_or_default(),
        accepted_monotonic_ns: monotonic_ns(arrival.accepted.into_std()),
        accepted_unix_ms: accepted_unix.as_millis() as u64,
        deadline_monotonic_ns: monotonic_ns(arrival.deadline.into_std()),
        hello_ms: arrival.accepted.elapsed().as_secs_f64() * 1e3,
        has_source_socket,
    })
}

/// How long a terminator that is being restarted is waited for. Starting one takes tens of milliseconds; a client
/// rather hears of a failure soon.
const TERMINATOR_PATIENCE: Duration = Duration::from_secs(2);

/// Of many that are started at once by their first connections, each waits for the others.
const ON_DEMAND_PATIENCE: Duration = Duration::from_secs(60);
