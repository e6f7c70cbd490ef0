//! The path of one connection, top to bottom: handshake, dial, relay; then its counters and its line in the access log.

use std::rc::Rc;
use std::time::Instant;

use connection::backends::Endpoint;
use connection::clock::instant_of;
use connection::handoff::Handoff;
use connection::relay::{Layered, SharedSocket, relay_stream, relay_streams};
use connection::silence::watch_over;
use connection::{SourceSocket, close_will_reset};
use tokio::net::TcpStream;
use tracing::debug;

use super::backend::{Backend, Way};
use super::handshake::{Failed, Routed, shake_hands};
use super::proxy_header::proxy_header;
use super::record::Record;
use super::worker::Worker;
use crate::backend_tls::BackendTlsFailure;
use crate::certificates::admit;
use crate::failure::Reason;
use crate::outcome::Outcome;

/// Serves one connection to its end.
pub(super) async fn serve(
    worker: Rc<Worker>,
    handoff: Box<Handoff>,
    client: std::net::TcpStream,
    source: Option<SourceSocket>,
) {
    let _active = worker.counters().active();
    let tenant = &worker.shared.tenant;
    let record = &mut Record::new(&worker, &handoff);
    let prepared = client.set_nodelay(true).and_then(|()| watch_over(&client, &tenant.tcp));
    let client = match prepared.and_then(|()| TcpStream::from_std(client)) {
        Ok(client) => SharedSocket::new(client),
        Err(error) => {
            // setsockopt(2) fails on a connection that the client has reset already.
            record.handshake_failed(Reason::ClientClosed, &error.to_string(), None);
            return record.end(Outcome::HandshakeFailed);
        }
    };

    let _admission = match tenant.limits.admit() {
        Ok(admission) => admission,
        Err(exceeded) => {
            let failed = Failed::over_limit(exceeded);
            record.handshake_failed(failed.reason, &failed.words, None);
            record.end(Outcome::HandshakeFailed);
            unless_forced(&worker, failed.close(client)).await;
            return;
        }
    };

    let routed = Routed {
        listener: &handoff.listener,
        server_name: handoff.server_name.as_deref(),
        hello_deadline: instant_of(handoff.deadline_monotonic_ns).into(),
    };
    let began = Instant::now();
    let tls = tenant.tls.current();
    let shaken = unless_forced(&worker, shake_hands(client.clone(), routed, &tenant.names, &tls)).await;
    let stream = match shaken {
        Some(Ok(stream)) => stream,
        Some(Err(failed)) => {
            record.handshake_failed(failed.reason, &failed.words, failed.refused.as_ref());
            record.end(Outcome::HandshakeFailed);
            unless_forced(&worker, failed.close(client)).await;
            return;
        }
        None => {
            record.handshake_failed(Reason::Drained, "the terminator stopped", None);
            return record.end(Outcome::Drained);
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    // The handshake has asked the same rules, so whoever is here is let in.
    let identity = certificate.and_then(|certificate| admit(&tls.client_rules, certificate).ok());
    record.handshake_ok(stream.get_ref().1, tls.asks_clients, identity.as_ref(), began.elapsed());
    let connector = tls.backend.clone();
    drop(tls);

    let began = Instant::now();
    let header = tenant
        .proxy_protocol
        .as_ref()
        .map_or_else(Vec::new, |settings| proxy_header(settings, &handoff, stream.get_ref().1, identity.as_ref()));
    let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let way = Way { connector, header: &header, alpn, source, tcp: tenant.tcp, counters: worker.counters() };
    let refused = |backend, failure: &BackendTlsFailure| record.backend_tls_failed(backend, failure);
    let dial = async |backend: &Endpoint, time_limit| way.go(backend, time_limit, refused).await;
    let connect = tenant.backends.connect(handoff.client.ip(), tenant.connect_timeout, dial);
    let (backend, lease) = match unless_forced(&worker, connect).await {
        Some(Ok(connected)) => connected,
        Some(Err(error)) => {
            // rustls sends no alert of ours after the handshake, and close_notify would pass for an empty answer: the
            // client gets a RST, as it would from a backend that fails.
            close_will_reset(&client);
            debug!(id = %handoff.id, %error, "the backend cannot be reached");
            record.reason(error.to_string());
            return record.end(Outcome::from(&error));
        }
        None => {
            close_will_reset(&client);
            return record.end(Outcome::Drained);
        }
    };
    // Its socket is the connection's own now.
    drop(way);
    record.connected(lease.address(), began.elapsed());

    let traffic = &worker.counters().traffic;
    let idle_timeout = tenant.idle_timeout;
    let client = Layered { stream, socket: client };
    let forced = worker.drain.forced();
    let end = match backend {
        Backend::Plain(tcp) => relay_stream(&worker.relay, client, tcp, idle_timeout, traffic, forced).await,
        Backend::Tls(tls) => relay_streams(&worker.relay, client, *tls, idle_timeout, traffic, forced).await,
    };
    record.relayed(&end);
    record.end(Outcome::from(&end.outcome));
}

/// `None` when the drain is forced first; what was under way is dropped then.
async fn unless_forced<T>(worker: &Worker, step: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = step => Some(done),
        () = worker.drain.forced() => None,
    }
}
