//! The passthrough step: dial the tenant's backend, then give both connections to the kernel where that is configured
//! and possible, or relay until both sides are done.

use std::net;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::connection::DialError;
use ::connection::backends::Endpoint;
use ::connection::proxy_protocol::{Origin, header};
use ::connection::relay::{RelayOutcome, relay_tcp};
use ::connection::silence::watch_over;
use config::Tenant;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::access::AccessRecord;
use super::carried::CarriedConnection;
use super::connection::{Arrival, Occupied, TenantFailure, fail};
use super::cut_through::{self, Switched};
use super::outcome::{ConnectionOutcome, Mode};
use super::site::Destination;
use super::worker::Worker;
use crate::metrics::TenantCounters;

/// Serves a connection whose TLS stays end to end, hello and all that follows.
pub(super) async fn serve(
    worker: &Worker,
    destination: &Destination,
    stream: TcpStream,
    arrival: &Arrival,
    mut record: AccessRecord<'_>,
    occupied: Occupied,
) {
    let (settings, counters) = (&*destination.tenant.settings, &destination.counters);
    let active = counters.active();
    let candidate = cut_through::prepare(worker, &stream, arrival.peer);
    let dialled = Instant::now();
    let Some(backends) = &destination.tenant.backends else { return };
    let header = proxy_header(settings, arrival, &stream, record.server_name());
    let connect = async |backend: &Endpoint, time_limit| {
        cut_through::dial(candidate.as_ref(), backend.address, time_limit, &header).await
    };
    let connected = backends.connect(record.client().ip(), settings.connect_timeout, connect).await;
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
            return fail(stream, record, destination, failure).await;
        }
    };
    let (stream, backend) = match cut_through::switch(worker, settings, stream, dialled, arrival) {
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
            return worker.carried.insert(place, connection);
        }
        Switched::Broken(error) => {
            counters.ended(ConnectionOutcome::BackendError);
            record.reason(error.to_string());
            return record.end(Mode::Passthrough.label(), ConnectionOutcome::BackendError);
        }
    };
    relay(worker, settings, counters, stream, backend, record).await;
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
    let mut record = record.relayed_after_all(&worker, client.peer_addr().unwrap_or(unknown));
    match (TcpStream::from_std(client), TcpStream::from_std(backend)) {
        (Ok(client), Ok(backend)) => relay(&worker, &settings, &counters, client, backend, record).await,
        (Err(error), _) | (_, Err(error)) => {
            counters.ended(ConnectionOutcome::BackendError);
            record.reason(error.to_string());
            record.end(Mode::Passthrough.label(), ConnectionOutcome::BackendError);
        }
    }
}

async fn relay(
    worker: &Worker,
    settings: &Tenant,
    counters: &TenantCounters,
    stream: TcpStream,
    backend: TcpStream,
    mut record: AccessRecord<'_>,
) {
    let prepared = stream.set_nodelay(true).and_then(|()| watch_over(&stream, &settings.tcp));
    if let Err(error) = prepared.and_then(|()| watch_over(&backend, &settings.tcp)) {
        debug!(%error, "options of a socket that is gone");
    }
    let forced = worker.shared.drain.forced_after(settings.drain_timeout);
    let end = relay_tcp(&worker.relay, stream, backend, settings.idle_timeout, &counters.traffic, forced).await;
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
    debug!(id = %record.id(), tenant = settings.name, outcome = outcome.label(), path = end.path.as_str(), "ended");
    record.end(Mode::Passthrough.label(), outcome);
}

/// What the backend expects ahead of the client's bytes; empty for most tenants.
fn proxy_header(tenant: &Tenant, arrival: &Arrival, stream: &TcpStream, server_name: Option<&str>) -> Vec<u8> {
    let Some(settings) = &tenant.proxy_protocol else { return Vec::new() };
    // getsockname(2) fails on no connected socket.
    let local = arrival.local(stream).unwrap_or(arrival.client);
    header(settings, &Origin { client: arrival.client, local, id: arrival.id, server_name, tls: None })
}
