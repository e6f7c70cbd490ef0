//! Active health checks: each backend is asked at each interval, in a way that the daemon chooses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::{HealthCheck, Tenant};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::endpoints::{Endpoints, State};
use super::{Backends, Endpoint};
use crate::proxy_protocol::own_header;
use crate::{DialError, dial_announced};

/// One look at one backend.
pub trait Probe: Clone + Send + Sync + 'static {
    /// Whether it would serve a connection, found out within `time_limit`.
    fn ask(&self, backend: &Endpoint, time_limit: Duration) -> impl Future<Output = Result<(), DialError>> + Send;
}

/// A TCP connection that is closed at once.
#[derive(Clone, Debug, Default)]
pub struct ConnectProbe {
    header: Arc<[u8]>,
}

impl ConnectProbe {
    /// For a tenant's backends, which find a PROXY header if they expect one.
    pub fn of(tenant: &Tenant) -> Self {
        Self { header: tenant.proxy_protocol.as_ref().map(own_header).unwrap_or_default().into() }
    }

    /// What a backend gets first.
    pub fn header(&self) -> &[u8] {
        &self.header
    }
}

impl Probe for ConnectProbe {
    async fn ask(&self, backend: &Endpoint, time_limit: Duration) -> Result<(), DialError> {
        dial_announced(backend.address, time_limit, &self.header).await.map(drop)
    }
}

/// Probes for ever, always what the names stand for at the time; returns at once where no check is configured. Dropping
/// it ends the probes.
pub async fn probe(backends: Arc<Backends>, how: impl Probe) {
    let Some(check) = backends.check else { return };
    let mut changes = backends.changed.subscribe();
    let mut probes = JoinSet::new();
    let mut asked: HashMap<SocketAddr, (Arc<State>, AbortHandle)> = HashMap::new();
    loop {
        let endpoints = backends.current();
        let mut before = std::mem::take(&mut asked);
        for (index, backend) in endpoints.list.iter().enumerate() {
            let address = backend.endpoint.address;
            // An address that went and came back in between has begun anew.
            let same = before.get(&address).is_some_and(|(state, _)| Arc::ptr_eq(state, &backend.state));
            let entry = before.remove(&address).filter(|_| same).unwrap_or_else(|| {
                let (backends, endpoints) = (Arc::clone(&backends), Arc::clone(&endpoints));
                let task = probes.spawn(keep_asking(backends, endpoints, index, check, how.clone()));
                (Arc::clone(&backend.state), task)
            });
            asked.insert(address, entry);
        }
        before.into_values().for_each(|(_, task)| task.abort());
        drop(endpoints);
        while probes.try_join_next().is_some() {}
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// One endpoint, until the task is aborted.
async fn keep_asking(
    backends: Arc<Backends>,
    endpoints: Arc<Endpoints>,
    index: usize,
    check: HealthCheck,
    how: impl Probe,
) {
    let mut turns = interval(check.interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let backend = &endpoints.list[index];
    loop {
        turns.tick().await;
        match how.ask(&backend.endpoint, check.timeout).await {
            Ok(()) => backends.observe(backend, Ok(())),
            Err(error) if error.is_the_backends() => backends.observe(backend, Err(&error)),
            // What this host lacks says nothing about the backend.
            Err(_) => {}
        }
    }
}
