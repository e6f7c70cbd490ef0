//! The passthrough step: dial the tenant's backend, then give both connections to the kernel where that is configured
//! and possible, or relay until both sides are done.

use std::io;
use std::net;
use std::os::fd::AsFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::connection::DialError;
use ::connection::backends::Endpoint;
use ::connection::proxy_protocol::{Origin, header};
use ::connection::relay::{Progress, RelayOutcome, Relayed, relay_tcp_until};
use ::connection::silence::watch_over;
use config::{ClientAddress, Tenant};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::access::AccessRecord;
use super::carried::CarriedConnection;
use super::connection::{Arrival, Occupied, TenantFailure, Unread, fail};
use super::cut_through::{self, Connected, Switched};
use super::hand_over::RelayedConnection;
use super::lazy_stream::LazyStream;
use super::outcome::{ConnectionOutcome, Mode};
use super::policy::TenantState;
use super::site::Destination;
use super::transparent;
use super::worker::Worker;
use crate::metrics::TenantCounters;

/// Serves a connection whose TLS stays end to end, hello and all that follows. Gives it back, still unread, when it is to be
/// handed over to another process before a backend has it.
pub(super) async fn serve(
    worker: &Worker,
    destination: &Destination,
    mut stream: LazyStream,
    arrival: Arrival,
    mut record: AccessRecord<'_>,
    occupied: Occupied,
) -> Option<Unread> {
    let (settings, counters) = (&*destination.tenant.settings, &destination.counters);
    let active = counters.active();
    let candidate = cut_through::prepare(worker, settings, &stream, arrival.peer);
    if candidate.is_none() {
        // What it has said is known by the time that the backend answers.
        match stream.register() {
            Ok(registered) => stream = LazyStream::Registered(registered),
            Err(error) => {
                broken(counters, record, &error);
                return None;
            }
        }
    }
    let dialled = Instant::now();
    let backends = destination.tenant.backends.as_ref()?;
    let header = proxy_header(settings, &arrival, &stream, record.server_name());
    let client = record.client().ip();
    let connect = async |backend: &Endpoint, time_limit| match settings.client_address {
        ClientAddress::Router => cut_through::dial(candidate.as_ref(), backend.address, time_limit, &header).await,
        ClientAddress::Transparent => {
            transparent::dial(client, backend.address, time_limit, &header).await.map(Connected::Plain)
        }
    };
    // Each branch may be dropped: the client's bytes are still in its socket, and a backend that was only dialled has seen
    // a header at most.
    let connected = tokio::select! {
        biased;
        connected = backends.connect(record.client().ip(), settings.connect_timeout, connect) => connected,
        () = worker.shared.hand_over.begun_for(&arrival.listener) => {
            return Some(Unread { stream, arrival, held: occupied.held });
        }
    };
    let address = connected.as_ref().map_or_else(DialError::address, |(_, lease)| Some(lease.address()));
    record.connected(address, dialled.elapsed());
    let (dialled, lease) = match connected {
        Ok(connected) => connected,
        Err(error) => {
            let failure = TenantFailure {
                mode: Mode::Passthrough,
                outcome: ConnectionOutcome::of_dial(&error),
                reason: error.to_string(),
            };
            fail(stream, record, destination, failure).await;
            return None;
        }
    };
    let known = || record.known(settings);
    let (stream, backend) = match cut_through::switch(worker, settings, stream, dialled, &arrival, known) {
        Switched::Not(stream, backend) => (stream, backend),
        Switched::Carried(place) => {
            let Occupied { admission, held } = occupied;
            let connection = CarriedConnection {
                settings: Arc::clone(&destination.tenant.settings),
                counters: Arc::clone(counters),
                record: record.carried(),
                _active: active,
                _lease: lease,
                _admission: admission,
                _held: held,
            };
            worker.carried.insert(place, connection);
            return None;
        }
        Switched::Broken(error) => {
            broken(counters, record, &error);
            return None;
        }
    };
    // Whatever else is known of the arrival is of no use any more.
    drop(arrival);
    watch_over_both(settings, &stream, &backend);
    let terms = Terms::of(settings, Some(lease.address()));
    // Apart, so that connections that the kernel carries have no room for it.
    Box::pin(register_and_relay(worker, terms, counters, (stream, backend), Progress::default(), record)).await;
    None
}

/// Goes on with a relay of a former process. Its tenant may be gone from the configuration since it began.
pub(super) async fn go_on(
    worker: Rc<Worker>,
    connection: RelayedConnection,
    tenant: Option<Arc<TenantState>>,
    sockets: [net::TcpStream; 2],
) {
    let RelayedConnection { record, tenant: name, backend, idle_timeout, drain_timeout, progress } = connection;
    let [client, backend_socket] = sockets;
    let record = AccessRecord::of_passport(&worker, record);
    let terms = Terms { tenant: &name, backend, idle_timeout, drain_timeout };
    let counters = match &tenant {
        Some(tenant) => Arc::clone(&tenant.counters[worker.index()]),
        None => Arc::new(TenantCounters::of_nobody()),
    };
    // What the connection occupies is bound until the end.
    let _active = counters.active();
    let _lease = tenant.as_ref().and_then(|tenant| tenant.backends.as_ref()?.resume(backend?));
    let _admission = tenant.as_ref().map(|tenant| tenant.limits.readmit());
    let _held = worker.hold(record.listener(), Some(record.client().ip()));
    let sockets = (LazyStream::Unregistered(client), LazyStream::Unregistered(backend_socket));
    register_and_relay(&worker, terms, &counters, sockets, progress, record).await;
}

/// Goes on with a connection that the kernel has given back.
pub(super) async fn resume(
    worker: Rc<Worker>,
    connection: CarriedConnection,
    client: net::TcpStream,
    backend: net::TcpStream,
) {
    // What the connection occupies is bound until the end.
    let CarriedConnection { settings, counters, record, _active, _lease, _admission, _held } = connection;
    let unknown = net::SocketAddr::from((net::Ipv4Addr::UNSPECIFIED, 0));
    let record = record.relayed_after_all(&worker, client.peer_addr().unwrap_or(unknown));
    watch_over_both(&settings, &client, &backend);
    let terms = Terms::of(&settings, Some(_lease.address()));
    let sockets = (LazyStream::Unregistered(client), LazyStream::Unregistered(backend));
    register_and_relay(&worker, terms, &counters, sockets, Progress::default(), record).await;
}

/// What a relay has to know of its tenant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'t> {
    pub(super) tenant: &'t str,
    /// As it is configured.
    pub(super) backend: Option<net::SocketAddr>,
    pub(super) idle_timeout: Duration,
    pub(super) drain_timeout: Duration,
}

impl<'t> Terms<'t> {
    fn of(tenant: &'t Tenant, backend: Option<net::SocketAddr>) -> Self {
        let Tenant { name, idle_timeout, drain_timeout, .. } = tenant;
        Self { tenant: name, backend, idle_timeout: *idle_timeout, drain_timeout: *drain_timeout }
    }
}

/// Sockets that may be new to this thread's runtime.
async fn register_and_relay(
    worker: &Worker,
    terms: Terms<'_>,
    counters: &TenantCounters,
    (client, backend): (LazyStream, LazyStream),
    progress: Progress,
    record: AccessRecord<'_>,
) {
    match (client.register(), backend.register()) {
        (Ok(client), Ok(backend)) => relay(worker, terms, counters, (client, backend), progress, record).await,
        (Err(error), _) | (_, Err(error)) => broken(counters, record, &error),
    }
}

/// One or both of the sockets are gone, for want of something of ours.
fn broken(counters: &TenantCounters, mut record: AccessRecord<'_>, error: &io::Error) {
    counters.ended(ConnectionOutcome::BackendError);
    record.reason(error.to_string());
    record.end(Mode::Passthrough.label(), ConnectionOutcome::BackendError);
}

fn watch_over_both(settings: &Tenant, client: &impl AsFd, backend: &impl AsFd) {
    if let Err(error) = watch_over(client, &settings.tcp).and_then(|()| watch_over(backend, &settings.tcp)) {
        debug!(%error, "options of a socket that is gone");
    }
}

/// Relays to the end, here or in the process that takes over.
async fn relay(
    worker: &Worker,
    terms: Terms<'_>,
    counters: &TenantCounters,
    mut connections: (TcpStream, TcpStream),
    mut progress: Progress,
    mut record: AccessRecord<'_>,
) {
    let end = loop {
        // By reference: a future that is passed on by value has a place at every step of the way.
        let forced = pin!(worker.shared.drain.forced_after(terms.drain_timeout));
        let hand_over = pin!(worker.shared.hand_over.begun());
        let (context, traffic) = (&worker.relay, &counters.traffic);
        let relayed =
            relay_tcp_until(context, connections, progress, terms.idle_timeout, traffic, forced, hand_over).await;
        let suspended = match relayed {
            Relayed::Ended(end) => break end,
            Relayed::Suspended(suspended) => suspended,
        };
        let Err(back) = worker.shared.hand_over.relayed(&record, terms, *suspended).await else { return };
        // Nobody takes it, so it goes on here.
        match (TcpStream::from_std(back.client), TcpStream::from_std(back.backend)) {
            (Ok(client), Ok(backend)) => (connections, progress) = ((client, backend), back.progress),
            (Err(error), _) | (_, Err(error)) => return broken(counters, record, &error),
        }
    };
    worker.counters.data_path(end.path);
    if end.fallback.is_some() {
        worker.counters.fallback_no_pipe.fetch_add(1, Ordering::Relaxed);
    }
    let outcome = ConnectionOutcome::of_relay(&end.outcome);
    counters.ended(outcome);
    record.relayed(&end);
    if let RelayOutcome::ClientError(error) | RelayOutcome::BackendError(error) = &end.outcome {
        record.reason(error.to_string());
    }
    debug!(id = %record.id(), tenant = terms.tenant, outcome = outcome.label(), path = end.path.as_str(), "ended");
    record.end(Mode::Passthrough.label(), outcome);
}

/// What the backend expects ahead of the client's bytes; empty for most tenants.
fn proxy_header(tenant: &Tenant, arrival: &Arrival, stream: &LazyStream, server_name: Option<&str>) -> Vec<u8> {
    let Some(settings) = &tenant.proxy_protocol else { return Vec::new() };
    // getsockname(2) fails on no connected socket.
    let local = arrival.local(stream).unwrap_or(arrival.client);
    header(settings, &Origin { client: arrival.client, local, id: arrival.id, server_name, tls: None })
}
