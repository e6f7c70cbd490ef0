//! The access record of one connection: grows along its path, becomes one line at its end.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use ::connection::clock::{instant_of, monotonic_ns};
use ::connection::relay::RelayEnd;
use ::connection::{AccessLine, AccessLog, ConnectionId};
use config::Tenant;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::connection::Arrival;
use super::outcome::ConnectionOutcome;
use super::peek::Hello;
use super::worker::Worker;
use crate::ebpf::cut_through::{FlowEnd, Known};

/// What is known so far. Dropping it without [`end`](Self::end) writes nothing: after a hand-off the terminator logs.
#[derive(Debug)]
pub(super) struct AccessRecord<'w> {
    worker: &'w Worker,
    accepted: Instant,
    id: ConnectionId,
    /// `None` for one that the kernel has given back.
    listener: Option<Rc<str>>,
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
        let listener = Some(Rc::clone(&arrival.listener));
        Self {
            worker,
            accepted: arrival.accepted,
            id: arrival.id,
            listener,
            client: arrival.client,
            server_name: None,
            line,
        }
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(super) fn client(&self) -> SocketAddr {
        self.client
    }

    pub(super) fn listener(&self) -> Option<&str> {
        self.listener.as_deref()
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

    /// What another process needs to say the last words if the kernel carries it.
    pub(super) fn known(&self, tenant: &Tenant) -> Known {
        let line = self.line.as_deref();
        Known {
            tenant: tenant.name.clone(),
            listener: self.listener.as_deref().unwrap_or_default().to_owned(),
            client: Some(self.client),
            server_name: self.server_name.as_deref().map(str::to_owned),
            ja4: line.and_then(|line| line.ja4.clone()),
            alpn: line.map(|line| line.alpn.clone()).unwrap_or_default(),
            hello: line.and_then(|line| line.hello_ms),
            connect: line.and_then(|line| line.connect_ms),
        }
    }

    /// What another process needs to go on with it.
    pub(super) fn passport(&self) -> Passport {
        let line = self.line.as_deref();
        Passport {
            id: self.id,
            listener: self.listener.as_deref().map(str::to_owned),
            client: self.client,
            server_name: self.server_name.as_deref().map(str::to_owned),
            accepted_monotonic_ns: monotonic_ns(self.accepted.into_std()),
            line: line.map(|line| PassportLine {
                time: line.time,
                listener: line.listener.to_string(),
                tenant: line.tenant.as_deref().map(str::to_owned),
                alpn: line.alpn.clone(),
                ja4: line.ja4.clone(),
                backend: line.backend,
                hello: line.hello_ms,
                connect: line.connect_ms,
            }),
        }
    }

    /// Goes on with the record of another process.
    pub(super) fn of_passport(worker: &'w Worker, passport: Passport) -> Self {
        let Passport { id, listener, client, server_name, accepted_monotonic_ns, line } = passport;
        let line = line.filter(|_| worker.shared.access_log.is_some()).map(|known| {
            let mut line = AccessLine::new(id, known.time, known.listener);
            line.client = Some(client);
            line.server_name.clone_from(&server_name);
            line.tenant = known.tenant.map(Cow::Owned);
            (line.alpn, line.ja4, line.backend) = (known.alpn, known.ja4, known.backend);
            (line.hello_ms, line.connect_ms) = (known.hello, known.connect);
            Box::new(line)
        });
        let accepted = instant_of(accepted_monotonic_ns).into();
        let (listener, server_name) = (listener.map(Rc::from), server_name.map(String::into_boxed_str));
        Self { worker, accepted, id, listener, client, server_name, line }
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

/// A record on its way to the process that goes on with the connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Passport {
    pub(super) id: ConnectionId,
    #[serde(default)]
    pub(super) listener: Option<String>,
    pub(super) client: SocketAddr,
    #[serde(default)]
    pub(super) server_name: Option<String>,
    /// See [`::connection::clock`].
    pub(super) accepted_monotonic_ns: u64,
    /// `None` when there is no access log.
    #[serde(default)]
    pub(super) line: Option<PassportLine>,
}

/// What only the access log wants to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PassportLine {
    time: SystemTime,
    listener: String,
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    alpn: Vec<String>,
    #[serde(default)]
    ja4: Option<String>,
    #[serde(default)]
    backend: Option<SocketAddr>,
    #[serde(default)]
    hello: Option<Duration>,
    #[serde(default)]
    connect: Option<Duration>,
}

#[cfg(test)]
impl Passport {
    pub(super) fn sample() -> Self {
        let line = PassportLine {
            time: SystemTime::UNIX_EPOCH,
            listener: "tls".to_owned(),
            tenant: Some("acme".to_owned()),
            alpn: vec!["h2".to_owned()],
            ja4: Some("t13d1516h2_8daaf6152771_e5627efa2ab1".to_owned()),
            backend: None,
            hello: Some(Duration::from_micros(250)),
            connect: None,
        };
        let client = SocketAddr::from(([192, 0, 2, 7], 50_000));
        let listener = Some("tls".to_owned());
        Self { id: ConnectionId(1), listener, client, server_name: None, accepted_monotonic_ns: 1, line: Some(line) }
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
        AccessRecord { worker, accepted, id, listener: None, client, server_name: None, line }
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
