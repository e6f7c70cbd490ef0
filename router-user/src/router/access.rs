//! The access record of one connection: grows along its path, becomes one line at its end.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use ::connection::relay::RelayEnd;
use ::connection::{AccessLine, AccessLog, ConnectionId};
use config::Tenant;
use tokio::time::Instant;

use super::connection::Arrival;
use super::outcome::ConnectionOutcome;
use super::peek::Hello;
use super::worker::Worker;
use crate::ebpf::cut_through::FlowEnd;

/// What is known so far. Dropping it without [`end`](Self::end) writes nothing: after a hand-off the terminator logs.
#[derive(Debug)]
pub(super) struct AccessRecord<'w> {
    worker: &'w Worker,
    accepted: Instant,
    id: ConnectionId,
    client: SocketAddr,
    server_name: Option<Box<str>>,
    /// `None` when there is no access log.
    line: Option<Box<AccessLine>>,
}

impl<'w> AccessRecord<'w> {
    pub(super) fn new(worker: &'w Worker, arrival: &Arrival) -> Self {
        let line = worker.shared.access_log.is_some().then(|| {
            let mut line = AccessLine::new(arrival.id, arrival.accepted_at, arrival.listener.to_string());
            line.client = Some(arrival.client);
            Box::new(line)
        });
        Self { worker, accepted: arrival.accepted, id: arrival.id, client: arrival.client, server_name: None, line }
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(super) fn client(&self) -> SocketAddr {
        self.client
    }

    pub(super) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The hello is known.
    pub(super) fn hello(&mut self, hello: &Hello) {
        self.server_name.clone_from(&hello.server_name);
        if let Some(line) = &mut self.line {
            line.server_name = hello.server_name.as_deref().map(str::to_owned);
            line.alpn.clone_from(&hello.alpn);
            line.ja4.clone_from(&hello.ja4);
            line.hello_ms = Some(self.accepted.elapsed());
        }
    }

    /// The route is known.
    pub(super) fn tenant(&mut self, tenant: &Tenant) {
        if let Some(line) = &mut self.line {
            line.tenant = Some(tenant.name.clone().into());
        }
    }

    /// The backend answered, or the last one that was tried failed, after this long.
    pub(super) fn connected(&mut self, backend: Option<SocketAddr>, took: Duration) {
        if let Some(line) = &mut self.line {
            line.backend = backend;
            line.connect_ms = Some(took);
        }
    }

    /// The relay is over.
    pub(super) fn relayed(&mut self, end: &RelayEnd) {
        if let Some(line) = &mut self.line {
            line.data_path = Some(end.path.as_str());
            line.client_to_backend = end.client_to_backend;
            line.backend_to_client = end.backend_to_client;
        }
    }

    /// The kernel carries it from here on.
    pub(super) fn carried(self) -> CarriedRecord {
        CarriedRecord { accepted: self.accepted, id: self.id, line: self.line }
    }

    /// Why, in words.
    pub(super) fn reason(&mut self, reason: impl Into<Cow<'static, str>>) {
        if let Some(line) = &mut self.line {
            line.reason = Some(reason.into());
        }
    }

    /// Writes the line.
    pub(super) fn end(self, mode: &'static str, outcome: ConnectionOutcome) {
        if let (Some(mut line), Some(log)) = (self.line, &self.worker.shared.access_log) {
            line.mode = Some(mode);
            line.outcome = outcome.label().into();
            line.total_ms = Some(self.accepted.elapsed());
            log.write(*line);
        }
    }
}

/// What is left to be kept of a connection that the kernel carries.
#[derive(Debug)]
pub(super) struct CarriedRecord {
    accepted: Instant,
    id: ConnectionId,
    line: Option<Box<AccessLine>>,
}

impl CarriedRecord {
    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    /// The kernel has given it back before it carried a byte.
    pub(super) fn relayed_after_all(self, worker: &Worker, client: SocketAddr) -> AccessRecord<'_> {
        let Self { accepted, id, line } = self;
        AccessRecord { worker, accepted, id, client, server_name: None, line }
    }

    /// Writes the line.
    pub(super) fn end(self, log: Option<&AccessLog>, end: &FlowEnd, mode: &'static str, outcome: ConnectionOutcome) {
        if let (Some(mut line), Some(log)) = (self.line, log) {
            line.data_path = Some("cut_through");
            line.client_to_backend = end.client_to_backend;
            line.backend_to_client = end.backend_to_client;
            line.mode = Some(mode);
            line.outcome = outcome.label().into();
            line.total_ms = Some(self.accepted.elapsed());
            log.write(*line);
        }
    }
}
