//! The router's side of cut-through: starts it, tries it for each passthrough connection, counts and logs what the
//! kernel carried, also of connections that a former process left. The kernel's side is in `crate::ebpf`.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::connection::{AccessLine, AccessLog, ConnectionId, DialError, dial_and_go_on};
use config::{ClientAddress, Config, DataPath, Tenant};
use router_common::name_hash;
use rustix::thread::CapabilitySet;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tracing::{debug, info, warn};

use super::connection::Arrival;
use super::lazy_stream::LazyStream;
use super::outcome::{ConnectionOutcome, Mode};
use super::policy::{LivePolicy, Policy};
use super::worker::Worker;
use crate::ebpf::Unavailable;
use crate::ebpf::cut_through::{
    Adopted, AdoptedEnd, AdoptedFlow, Candidate, CutThrough, CuttingThrough, Described, Dialled, Fallback, FlowEnd,
    Identity, Known, Loaded, NotCut, Occupied, Place, Trust,
};
use crate::metrics::TenantCounters;

/// What the start with privileges has come to.
pub(super) struct Started {
    data_path: DataPath,
    choice: Choice,
    /// What a former process left, where there are to be no new flows.
    former: Option<Box<Loaded>>,
}

enum Choice {
    NotConfigured,
    OfNoUse,
    Ready(Box<Loaded>),
    Unavailable(Unavailable),
}

impl Started {
    /// The part that needs the privileges of the start. With `Auto` the self-test decides.
    pub(super) fn load(config: &Config) -> Self {
        let load = |trust| match Loaded::load(&config.runtime_dir, trust) {
            Ok(loaded) => Choice::Ready(Box::new(loaded)),
            Err(reason) => Choice::Unavailable(reason),
        };
        let choice = match config.data_path {
            DataPath::CutThrough => load(Trust::Configured),
            DataPath::Auto if !config.can_cut_through() => Choice::OfNoUse,
            DataPath::Auto => load(Trust::SelfTest),
            DataPath::Splice | DataPath::Copy => Choice::NotConfigured,
        };
        let former = if matches!(choice, Choice::Ready(_)) { None } else { former(config) };
        Self { data_path: config.data_path, choice, former }
    }

    /// What the process has to keep: TCP_REPAIR asks for it for each connection.
    pub(super) fn capabilities(&self) -> CapabilitySet {
        let needed = matches!(self.choice, Choice::Ready(_)) || self.former.is_some();
        if needed { CapabilitySet::NET_ADMIN } else { CapabilitySet::empty() }
    }

    /// The other part.
    pub(super) fn finish(self, policy: Arc<LivePolicy>, access_log: Option<AccessLog>) -> CuttingThrough {
        let start = |loaded: Loaded| {
            let (known, policy) = (Arc::clone(&policy), Arc::clone(&policy));
            let access_log = access_log.clone();
            loaded.start(Adopted {
                occupy: Box::new(move |flows| occupy(&known.current(), flows)),
                on_end: Box::new(move |end| adopted(&policy.current(), access_log.as_ref(), end)),
            })
        };
        let former = self.former.and_then(|former| {
            let warn = |error: &Unavailable| warn!("cut-through: flows of a former process go on unseen: {error}");
            start(*former).inspect_err(warn).ok()
        });
        let reason = match self.choice {
            Choice::NotConfigured => return CuttingThrough::NotConfigured(former),
            Choice::OfNoUse => return CuttingThrough::OfNoUse(former),
            Choice::Ready(loaded) => match start(*loaded) {
                Ok(cut_through) => return CuttingThrough::Running(cut_through),
                Err(reason) => reason,
            },
            Choice::Unavailable(reason) => reason,
        };
        report(self.data_path, &reason);
        CuttingThrough::Unavailable(reason, former)
    }
}

/// Needs the privileges of the start, and does nothing without them.
fn former(config: &Config) -> Option<Box<Loaded>> {
    match Loaded::retire(&config.runtime_dir) {
        Ok(loaded) => loaded.map(Box::new),
        Err(error) => {
            warn!("cut-through: what a former process left is left alone: {error}");
            None
        }
    }
}

/// What connections of a former process count for, as if they had been accepted here; they cannot be refused any more.
fn occupy(policy: &Policy, flows: &[AdoptedFlow]) -> Vec<Option<Occupied>> {
    if flows.is_empty() {
        return Vec::new();
    }
    let tenants: HashMap<_, _> =
        policy.tenants.iter().map(|tenant| (name_hash(&tenant.settings.name), tenant)).collect();
    let listeners = &policy.config.listeners;
    let of_flow = |flow: &AdoptedFlow| -> Option<Occupied> {
        let [listener, tenant] = flow.identity.names;
        let tenant = tenants.get(&tenant)?;
        let client = flow.known.as_ref().and_then(|known| known.client).unwrap_or(flow.client);
        let held = listeners.iter().position(|known| name_hash(&known.name) == listener).map(|listener| {
            let bounds = listeners[listener].per_source.as_ref().zip(policy.sources[listener].as_ref());
            let source = bounds.and_then(|(bounds, sources)| sources.readmit(bounds, client.ip()));
            (policy.permits[listener].acquire_now(), source)
        });
        let lease = tenant.backends.as_ref().and_then(|backends| backends.resume(flow.backend));
        // No worker has it, so any may count it.
        let active = tenant.counters.first().map(TenantCounters::active);
        Some(Box::new((active, tenant.limits.readmit(), lease, held)))
    };
    flows.iter().map(of_flow).collect()
}

/// With `Auto` it is nothing to worry about that a process may not do it, or that a kernel cannot.
fn report(data_path: DataPath, reason: &Unavailable) {
    match (data_path, reason) {
        (DataPath::Auto, Unavailable::NotPermitted { .. } | Unavailable::Kernel { .. }) => {
            info!(reason = reason.reason(), "cut-through: off, all connections are relayed: {reason}");
        }
        _ => warn!(reason = reason.reason(), "cut-through: off, all connections are relayed: {reason}"),
    }
    if let Unavailable::Verifier { log, .. } = reason {
        debug!("{log}");
    }
}

/// Before the dial: whether this client's connection can be given to the kernel.
pub(super) fn prepare<'w>(
    worker: &'w Worker,
    settings: &Tenant,
    client: &LazyStream,
    peer: SocketAddr,
) -> Option<(&'w CutThrough, Candidate)> {
    let cut_through = match &worker.shared.cut_through {
        CuttingThrough::Running(_) if settings.client_address == ClientAddress::Transparent => {
            worker.counters.fallback(Fallback::ClientAddress);
            return None;
        }
        CuttingThrough::Running(carrier) => match carrier.get() {
            Some(cut_through) => cut_through,
            None => {
                worker.counters.fallback(Fallback::AnotherProcess);
                return None;
            }
        },
        CuttingThrough::OfNoUse(_) => {
            worker.counters.fallback(Fallback::Local);
            return None;
        }
        CuttingThrough::NotConfigured(_) | CuttingThrough::Unavailable(..) => return None,
    };
    match cut_through.prepare(client, peer) {
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
            if !header.is_empty() {
                // Otherwise the hello would wait for the header to be acknowledged.
                dialled.backend.set_nodelay(true).map_err(|source| DialError::new(backend, source))?;
            }
            // Whatever our own TCP has sent before the switch it also brings to the backend.
            let sent = dialled.backend.write_all(header).await;
            sent.map_err(|source| DialError::new(backend, source))?;
            Ok(Connected::Prepared(cut_through, dialled))
        }
        None => Ok(Connected::Plain(dial_and_go_on(backend, time_limit, header).await?)),
    }
}

/// What [`switch`] made of two connections.
pub(super) enum Switched {
    /// They are as they were: client and backend.
    Not(LazyStream, LazyStream),
    /// The kernel has them.
    Carried(Place),
    /// They are gone.
    Broken(io::Error),
}

/// After the dial.
pub(super) fn switch(
    worker: &Worker,
    tenant: &Tenant,
    client: LazyStream,
    connected: Connected<'_>,
    arrival: &Arrival,
    known: impl FnOnce() -> Known,
) -> Switched {
    let (cut_through, backend, attempt) = match connected {
        Connected::Plain(backend) => return Switched::Not(client, LazyStream::Registered(backend)),
        Connected::Prepared(_, Dialled { backend, attempt: Err(reason) }) => {
            worker.counters.fallback(reason);
            return Switched::Not(client, LazyStream::Registered(backend));
        }
        Connected::Prepared(cut_through, Dialled { backend, attempt: Ok(attempt) }) => (cut_through, backend, attempt),
    };
    // The kernel carries it, or whoever relays it makes it known again.
    let (client, backend) = match (client.into_std(), backend.into_std()) {
        (Ok(client), Ok(backend)) => (client, backend),
        (Err(error), _) | (_, Err(error)) => {
            cut_through.give_up(&attempt);
            return Switched::Broken(error);
        }
    };
    let accepted = arrival.accepted_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let identity = Identity {
        connection: arrival.id.0,
        accepted_unix_ms: accepted.as_millis() as u64,
        names: [name_hash(&arrival.listener), name_hash(&tenant.name)],
    };
    let to_worker = worker.carried.end_sender();
    let described = Described { identity, note: Some(known().note(&identity)) };
    match cut_through.install(attempt, client, backend, described, tenant.idle_timeout, to_worker) {
        Ok(place) => {
            worker.counters.cut_through.fetch_add(1, Ordering::Relaxed);
            Switched::Carried(place)
        }
        Err(NotCut::Relay { client, backend, reason }) => {
            worker.counters.fallback(reason);
            Switched::Not(LazyStream::Unregistered(client), LazyStream::Unregistered(backend))
        }
        Err(NotCut::Broken(error)) => Switched::Broken(error),
    }
}

/// Counts the end of a connection that the kernel has carried.
pub(super) fn count(counters: &TenantCounters, end: &FlowEnd) -> ConnectionOutcome {
    counters.traffic.client_to_backend.fetch_add(end.client_to_backend, Ordering::Relaxed);
    counters.traffic.backend_to_client.fetch_add(end.backend_to_client, Ordering::Relaxed);
    let outcome = ConnectionOutcome::of_flow(end.outcome);
    counters.ended(outcome);
    outcome
}

/// Counts and logs a connection of a former process. Without words about it (the process died in the moment of the switch)
/// it has the names that are still in the configuration.
fn adopted(policy: &Policy, log: Option<&AccessLog>, adopted: AdoptedEnd) {
    let AdoptedEnd { identity, known, client, backend, end } = adopted;
    let [listener, tenant] = identity.names;
    let listener = policy.config.listeners.iter().find(|known| name_hash(&known.name) == listener);
    let tenant = policy.tenants.iter().find(|known| name_hash(&known.settings.name) == tenant);
    // No worker has it, so any may count it.
    let outcome = match tenant.and_then(|tenant| tenant.counters.first()) {
        Some(counters) => count(counters, &end),
        None => ConnectionOutcome::of_flow(end.outcome),
    };
    let Some(log) = log else { return };
    let accepted = UNIX_EPOCH + Duration::from_millis(identity.accepted_unix_ms);
    let known = known.unwrap_or_else(|| Known {
        tenant: tenant.map(|tenant| tenant.settings.name.clone()).unwrap_or_default(),
        listener: listener.map(|listener| listener.name.clone()).unwrap_or_default(),
        ..Known::default()
    });
    let mut line = AccessLine::new(ConnectionId(identity.connection), accepted, known.listener);
    line.tenant = Some(known.tenant).filter(|name| !name.is_empty()).map(Into::into);
    line.mode = Some(Mode::Passthrough.label());
    line.client = known.client.or(Some(client));
    (line.server_name, line.ja4, line.alpn) = (known.server_name, known.ja4, known.alpn);
    (line.hello_ms, line.connect_ms) = (known.hello, known.connect);
    line.backend = Some(backend);
    line.data_path = Some("cut_through");
    line.client_to_backend = end.client_to_backend;
    line.backend_to_client = end.backend_to_client;
    line.outcome = outcome.label().into();
    line.total_ms = SystemTime::now().duration_since(accepted).ok();
    log.write(line);
}
