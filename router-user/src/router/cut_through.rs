//! The router's side of cut-through: starts it, tries it for each passthrough connection, counts and logs what the
//! kernel carried, also of connections that a former process left. The kernel's side is in `crate::ebpf`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::connection::{AccessLine, AccessLog, ConnectionId, DialError, dial_announced};
use config::{Config, DataPath, Tenant};
use rustix::thread::CapabilitySet;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tracing::{debug, warn};

use super::access::AccessRecord;
use super::connection::Arrival;
use super::outcome::{ConnectionOutcome, Mode};
use super::policy::{LivePolicy, Policy};
use super::worker::Worker;
use crate::ebpf::Unavailable;
use crate::ebpf::cut_through::{
    AdoptedEnd, Candidate, Carried, CutThrough, CuttingThrough, Dialled, FlowEnd, Identity, Loaded, NotCut, Place,
};
use crate::metrics::TenantCounters;

/// The part that needs the privileges of the start; `None` when it is not configured.
pub(super) fn load(config: &Config) -> Option<Result<Loaded, Unavailable>> {
    (config.data_path == DataPath::CutThrough).then(|| Loaded::load(&config.runtime_dir))
}

/// What the process has to keep: TCP_REPAIR asks for it for each connection.
pub(super) fn capabilities(loaded: &Option<Result<Loaded, Unavailable>>) -> CapabilitySet {
    if matches!(loaded, Some(Ok(_))) { CapabilitySet::NET_ADMIN } else { CapabilitySet::empty() }
}

/// The other part.
pub(super) fn start(
    loaded: Option<Result<Loaded, Unavailable>>,
    policy: Arc<LivePolicy>,
    access_log: Option<AccessLog>,
) -> CuttingThrough {
    let Some(loaded) = loaded else { return CuttingThrough::NotConfigured };
    let on_adopted_end = move |end: AdoptedEnd| adopted(&policy.current(), access_log.as_ref(), &end);
    match loaded.and_then(|loaded| loaded.start(Box::new(on_adopted_end))) {
        Ok(cut_through) => CuttingThrough::Running(cut_through),
        Err(reason) => {
            warn!(reason = reason.reason(), "cut-through: off, all connections are relayed: {reason}");
            if let Unavailable::Verifier { log, .. } = &reason {
                debug!("{log}");
            }
            CuttingThrough::Unavailable(reason)
        }
    }
}

/// Before the dial: whether this client's connection can be given to the kernel.
pub(super) fn prepare<'w>(worker: &'w Worker, client: &TcpStream) -> Option<(&'w CutThrough, Candidate)> {
    let CuttingThrough::Running(cut_through) = &worker.shared.cut_through else { return None };
    match cut_through.prepare(client) {
        Ok(candidate) => Some((cut_through, candidate)),
        Err(reason) => {
            worker.counters.fallback(reason);
            None
        }
    }
}

/// A connection to a backend, and how to go on with it.
pub(super) enum Connected<'w> {
    /// Relay.
    Plain(TcpStream),
    /// Switch if that is possible.
    Prepared(&'w CutThrough, Dialled),
}

/// Dials so that both connections agree, where there is a candidate, and sends the bytes that the backend expects first.
pub(super) async fn dial<'w>(
    candidate: Option<&(&'w CutThrough, Candidate)>,
    backend: SocketAddr,
    time_limit: Duration,
    header: &[u8],
) -> Result<Connected<'w>, DialError> {
    match candidate {
        Some((cut_through, candidate)) => {
            let mut dialled = cut_through.dial(candidate, backend, time_limit).await?;
            // Whatever our own TCP has sent before the switch it also brings to the backend.
            let sent = dialled.backend.write_all(header).await;
            sent.map_err(|source| DialError::new(backend, source))?;
            Ok(Connected::Prepared(cut_through, dialled))
        }
        None => Ok(Connected::Plain(dial_announced(backend, time_limit, header).await?)),
    }
}

/// What [`switch`] made of two connections.
pub(super) enum Switched<'w> {
    /// They are as they were: client and backend.
    Not(TcpStream, TcpStream),
    /// The kernel has them.
    Carried(&'w CutThrough, Carried),
    /// They are gone.
    Broken(io::Error),
}

/// After the dial.
pub(super) fn switch<'w>(
    worker: &Worker,
    tenant: &Tenant,
    client: TcpStream,
    connected: Connected<'w>,
    arrival: &Arrival,
) -> Switched<'w> {
    let (cut_through, backend, attempt) = match connected {
        Connected::Plain(backend) => return Switched::Not(client, backend),
        Connected::Prepared(_, Dialled { backend, attempt: Err(reason) }) => {
            worker.counters.fallback(reason);
            return Switched::Not(client, backend);
        }
        Connected::Prepared(cut_through, Dialled { backend, attempt: Ok(attempt) }) => (cut_through, backend, attempt),
    };
    let accepted = arrival.accepted_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let identity = Identity {
        connection: arrival.id.0,
        accepted_unix_ms: accepted.as_millis() as u64,
        names: [name_hash(&arrival.listener), name_hash(&tenant.name)],
    };
    match cut_through.install(attempt, client, backend, &identity, tenant.idle_timeout) {
        Ok(carried) => {
            worker.counters.cut_through.fetch_add(1, Ordering::Relaxed);
            Switched::Carried(cut_through, carried)
        }
        Err(NotCut::Relay { client, backend, reason }) => {
            worker.counters.fallback(reason);
            Switched::Not(client, backend)
        }
        Err(NotCut::Broken(error)) => Switched::Broken(error),
    }
}

/// Waits for the end of a connection that the kernel carries. A drain does not: the connection goes on without a
/// router, and the next one logs its end.
pub(super) async fn accompany(
    worker: &Worker,
    counters: &TenantCounters,
    cut_through: &CutThrough,
    carried: Carried,
    mut record: AccessRecord<'_>,
) {
    let end = tokio::select! {
        end = carried.end => end.ok(),
        () = left_to_the_kernel(worker, cut_through, carried.place) => None,
    };
    let Some(end) = end else { return };
    let outcome = count(counters, &end);
    record.carried(&end);
    debug!(id = %record.id(), outcome = outcome.label(), path = "cut_through", "ended");
    record.end(Mode::Passthrough.label(), outcome);
}

async fn left_to_the_kernel(worker: &Worker, cut_through: &CutThrough, place: Place) {
    worker.shared.drain.draining().await;
    while !cut_through.is_alone(place) {
        tokio::time::sleep(OPENING_POLL).await;
    }
}

fn count(counters: &TenantCounters, end: &FlowEnd) -> ConnectionOutcome {
    counters.traffic.client_to_backend.fetch_add(end.client_to_backend, Ordering::Relaxed);
    counters.traffic.backend_to_client.fetch_add(end.backend_to_client, Ordering::Relaxed);
    let outcome = ConnectionOutcome::of_flow(end.outcome);
    counters.ended(outcome);
    outcome
}

/// Counts and logs a connection of a former process, as far as its names are still in the configuration.
fn adopted(policy: &Policy, log: Option<&AccessLog>, adopted: &AdoptedEnd) {
    let [listener, tenant] = adopted.identity.names;
    let listener = policy.config.listeners.iter().find(|known| name_hash(&known.name) == listener);
    let tenant = policy.tenants.iter().find(|known| name_hash(&known.settings.name) == tenant);
    // No worker has it, so any may count it.
    let outcome = match tenant.and_then(|tenant| tenant.counters.first()) {
        Some(counters) => count(counters, &adopted.end),
        None => ConnectionOutcome::of_flow(adopted.end.outcome),
    };
    let Some(log) = log else { return };
    let accepted = UNIX_EPOCH + Duration::from_millis(adopted.identity.accepted_unix_ms);
    let listener = listener.map(|listener| listener.name.clone()).unwrap_or_default();
    let mut line = AccessLine::new(ConnectionId(adopted.identity.connection), accepted, listener);
    line.tenant = tenant.map(|tenant| tenant.settings.name.clone().into());
    line.mode = Some(Mode::Passthrough.label());
    line.client = Some(adopted.client);
    line.backend = Some(adopted.backend);
    line.data_path = Some("cut_through");
    line.client_to_backend = adopted.end.client_to_backend;
    line.backend_to_client = adopted.end.backend_to_client;
    line.outcome = outcome.label().into();
    line.total_ms = SystemTime::now().duration_since(accepted).ok();
    log.write(line);
}

/// The kernel keeps numbers, not names.
fn name_hash(name: &str) -> u32 {
    let bytes: Vec<_> = name.bytes().map(usize::from).collect();
    router_common::layout(&bytes)
}

/// A flow is opening for some milliseconds.
const OPENING_POLL: Duration = Duration::from_millis(5);
