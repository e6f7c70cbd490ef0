//! Active health checks: each backend is asked at each interval, in a way that the daemon chooses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::Tenant;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Backends;
use crate::proxy_protocol::own_header;
use crate::{DialError, dial_announced};

/// One look at one backend.
pub trait Probe: Clone + Send + Sync + 'static {
    /// Whether it would serve a connection, found out within `time_limit`.
    fn ask(&self, backend: SocketAddr, time_limit: Duration) -> impl Future<Output = Result<(), DialError>> + Send;
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
    async fn ask(&self, backend: SocketAddr, time_limit: Duration) -> Result<(), DialError> {
        dial_announced(backend, time_limit, &self.header).await.map(drop)
    }
}

/// Probes for ever; returns at once where no check is configured. Dropping it ends the probes.
pub async fn probe(backends: Arc<Backends>, how: impl Probe) {
    let Some(check) = backends.check else { return };
    let mut probes = JoinSet::new();
    for index in 0..backends.list.len() {
        let (backends, how) = (Arc::clone(&backends), how.clone());
        probes.spawn(async move {
            let mut turns = interval(check.interval);
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                turns.tick().await;
                match how.ask(backends.list[index].address, check.timeout).await {
                    Ok(()) => backends.observe(index, Ok(())),
                    Err(error) if error.is_the_backends() => backends.observe(index, Err(&error)),
                    // What this host lacks says nothing about the backend.
                    Err(_) => {}
                }
            }
        });
    }
    probes.join_all().await;
}
