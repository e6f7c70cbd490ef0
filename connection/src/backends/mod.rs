//! A tenant's backends: which one a connection goes to, which are healthy, and what to try next when one fails.
//! One set per tenant and process, shared by its workers without a lock.

mod balance;
mod health;
mod probe;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use config::{BackendTarget, Balance, HealthCheck, Tenant};
use tokio::time::Instant;
use tracing::{info, warn};

use self::balance::Picker;
use self::health::{Health, Verdict};
use crate::DialError;

pub use self::probe::{ConnectProbe, Probe, probe};

/// The backends of one tenant.
#[derive(Debug)]
pub struct Backends {
    /// For log lines.
    tenant: String,
    list: Vec<Backend>,
    picker: Picker,
    check: Option<HealthCheck>,
}

#[derive(Debug)]
struct Backend {
    address: SocketAddr,
    /// Share of the connections; 0 gets none.
    weight: u16,
    state: Arc<State>,
}

/// What is known of a backend. It outlives a reload that keeps the backend.
#[derive(Debug)]
struct State {
    /// Connections that were given to it and have not ended.
    active: AtomicUsize,
    health: Health,
}

/// A backend's state, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendState {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it gets connections.
    pub up: bool,
    /// Connections that it has.
    pub active: usize,
}

/// The right to use a backend, counted as one of its connections until it is dropped.
#[derive(Debug)]
pub struct Lease {
    backends: Arc<Backends>,
    index: usize,
}

impl Backends {
    /// The backends of a tenant of the configuration.
    pub fn of(tenant: &Tenant) -> Self {
        Self::new(&tenant.name, &tenant.backends, tenant.balance, tenant.health_check)
    }

    /// The backends of the same tenant under a changed configuration. Those that stay keep what is known of them: their
    /// connections and, where there is still a check, their health.
    pub fn succeed(&self, tenant: &Tenant) -> Self {
        let mut next = Self::of(tenant);
        for new in &mut next.list {
            let Some(known) = self.list.iter().find(|known| known.address == new.address) else { continue };
            new.state = Arc::clone(&known.state);
            if next.check.is_none() {
                new.state.health.assume_healthy();
            }
        }
        next
    }

    /// A set in which everybody is healthy. Without a check nobody ever is not: failures then only lead on to the next.
    fn new(tenant: impl Into<String>, targets: &[BackendTarget], balance: Balance, check: Option<HealthCheck>) -> Self {
        let backend = |target: &BackendTarget| Backend {
            address: target.address,
            weight: target.weight,
            state: Arc::new(State { active: AtomicUsize::new(0), health: Health::new() }),
        };
        Self {
            tenant: tenant.into(),
            list: targets.iter().map(backend).collect(),
            picker: Picker::new(balance, targets),
            check,
        }
    }

    /// Connects `client` by `dial` to the backend whose turn it is, and to the next ones as long as that fails and
    /// `time_limit`, which holds for all attempts together, is not over. An attempt gets an equal share of the time
    /// that is left, so that a backend that swallows SYNs does not use up the others' time.
    ///
    /// The error is the last attempt's; [`DialError::NoneHealthy`] where there was nobody to try.
    pub async fn connect<T>(
        self: &Arc<Self>,
        client: IpAddr,
        time_limit: Duration,
        mut dial: impl AsyncFnMut(SocketAddr, Duration) -> Result<T, DialError>,
    ) -> Result<(T, Lease), DialError> {
        let deadline = Instant::now() + time_limit;
        let mut tried = Vec::new();
        let mut last_error = None;
        loop {
            let Some(lease) = self.lease(client, &tried) else {
                return Err(last_error.unwrap_or(DialError::NoneHealthy { backends: self.list.len() }));
            };
            let others = self.candidates(&tried).count().saturating_sub(1);
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left.div_f64((others + 1) as f64);
            match dial(lease.address(), share).await {
                Ok(connected) => {
                    self.list[lease.index].state.health.worked();
                    return Ok((connected, lease));
                }
                Err(error) => {
                    if error.is_the_backends() {
                        self.observe(lease.index, Err(&error));
                    }
                    let hopeless = error.is_ours() || others == 0 || Instant::now() >= deadline;
                    if hopeless {
                        return Err(error);
                    }
                    tried.push(lease.index);
                    last_error = Some(error);
                }
            }
        }
    }

    /// The right to a backend that a connection of another process uses already; `None` where it is none of these.
    pub fn resume(self: &Arc<Self>, address: SocketAddr) -> Option<Lease> {
        let index = self.list.iter().position(|backend| backend.address == address)?;
        self.list[index].state.active.fetch_add(1, Ordering::Relaxed);
        Some(Lease { backends: Arc::clone(self), index })
    }

    /// Whether there is a health check.
    pub fn are_checked(&self) -> bool {
        self.check.is_some()
    }

    /// Every backend's state, in the order of the configuration.
    pub fn states(&self) -> Vec<BackendState> {
        let state = |backend: &Backend| BackendState {
            address: backend.address,
            up: backend.state.health.is_up(),
            active: backend.state.active.load(Ordering::Relaxed),
        };
        self.list.iter().map(state).collect()
    }

    fn lease(self: &Arc<Self>, client: IpAddr, tried: &[usize]) -> Option<Lease> {
        let index = self.picker.pick(&self.list, client, |index| self.is_candidate(index, tried))?;
        self.list[index].state.active.fetch_add(1, Ordering::Relaxed);
        Some(Lease { backends: Arc::clone(self), index })
    }

    fn candidates(&self, tried: &[usize]) -> impl Iterator<Item = usize> {
        (0..self.list.len()).filter(|index| self.is_candidate(*index, tried))
    }

    fn is_candidate(&self, index: usize, tried: &[usize]) -> bool {
        let backend = &self.list[index];
        backend.weight > 0 && backend.state.health.is_up() && !tried.contains(&index)
    }

    /// Takes note of a probe, or of a connection that failed, and says so when it changes what the backend gets.
    fn observe(&self, index: usize, result: Result<(), &DialError>) {
        let Some(check) = &self.check else { return };
        let backend = &self.list[index];
        let (tenant, address) = (&self.tenant, backend.address);
        match backend.state.health.observe(result.is_ok(), check) {
            Verdict::AsBefore => {}
            Verdict::CameUp => info!(tenant, backend = %address, "backend is healthy again"),
            Verdict::WentDown => {
                let left = self.candidates(&[]).count();
                let reason = result.err().map(ToString::to_string).unwrap_or_default();
                warn!(tenant, backend = %address, healthy = left, reason, "backend is unhealthy and gets no connections");
            }
        }
    }
}

impl Lease {
    /// Where the backend listens.
    pub fn address(&self) -> SocketAddr {
        self.backends.list[self.index].address
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backends.list[self.index].state.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
