//! A tenant's backends: which one a connection goes to, which are healthy, and what to try next when one fails.
//! One set per tenant and process, shared by its workers. Never resolves a name: it is told the answers.

mod balance;
mod endpoints;
mod health;
mod probe;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use config::{BackendName, BackendTarget, Balance, HealthCheck, Tenant};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use self::endpoints::{Answers, Backend, Endpoints, usable};
use self::health::Verdict;
use crate::DialError;

pub use self::endpoints::{Endpoint, MOST_ADDRESSES};
pub use self::probe::{ConnectProbe, Probe, probe};

/// The backends of one tenant.
#[derive(Debug)]
pub struct Backends {
    /// For log lines.
    tenant: String,
    targets: Vec<BackendTarget>,
    balance: Balance,
    check: Option<HealthCheck>,
    /// The lock is held for the copy of a pointer, and by a name's new answer for as long as it takes to count with it.
    endpoints: RwLock<Arc<Endpoints>>,
    /// Tells of each new set of endpoints.
    changed: watch::Sender<()>,
}

/// A backend's state, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendState {
    /// Where it listens; its name and port where the name has no address.
    pub address: String,
    /// Name and port as they are configured; `None` where that is the address.
    pub name: Option<String>,
    /// Whether it gets connections.
    pub up: bool,
    /// Connections that it has.
    pub active: usize,
}

/// The right to use a backend, counted as one of its connections until it is dropped.
#[derive(Debug)]
pub struct Lease {
    endpoints: Arc<Endpoints>,
    index: usize,
}

impl Backends {
    /// The backends of a tenant of the configuration. Names have not been answered for.
    pub fn of(tenant: &Tenant) -> Self {
        Self::new(&tenant.name, &tenant.backends, tenant.balance, tenant.health_check)
    }

    /// The backends of the same tenant under a changed configuration. Those that stay keep what is known of them: their
    /// addresses, their connections and, where there is still a check, their health.
    pub fn succeed(&self, tenant: &Tenant) -> Self {
        let mut next = Self::of(tenant);
        let before = self.current();
        let names = tenant.backends.iter().filter_map(|target| target.address.name());
        let answers: Answers =
            names.filter_map(|name| Some((name.clone(), Arc::clone(before.answers.get(name)?)))).collect();
        let endpoints = Endpoints::new(&next.targets, next.balance, answers, &before.list);
        if next.check.is_none() {
            endpoints.list.iter().for_each(|backend| backend.state.health.assume_healthy());
        }
        next.endpoints = RwLock::new(Arc::new(endpoints));
        next
    }

    /// A set in which everybody is healthy. Without a check nobody ever is not: failures then only lead on to the next.
    fn new(tenant: impl Into<String>, targets: &[BackendTarget], balance: Balance, check: Option<HealthCheck>) -> Self {
        Self {
            tenant: tenant.into(),
            targets: targets.to_vec(),
            balance,
            check,
            endpoints: RwLock::new(Arc::new(Endpoints::new(targets, balance, Answers::new(), &[]))),
            changed: watch::Sender::new(()),
        }
    }

    /// All addresses that `name` has from now on. Backends that are left out get nothing new; what is established goes
    /// on. A name that none of the backends has is passed over.
    pub fn resolve(&self, name: &BackendName, addresses: &[IpAddr]) {
        if !self.targets.iter().any(|target| target.address.name() == Some(name)) {
            return;
        }
        let addresses = usable(addresses);
        let before = {
            let mut endpoints = self.endpoints.write().unwrap_or_else(PoisonError::into_inner);
            let before = Arc::clone(&endpoints);
            if before.answers.get(name) == Some(&addresses) {
                return;
            }
            let mut answers = before.answers.clone();
            answers.insert(name.clone(), Arc::clone(&addresses));
            *endpoints = Arc::new(Endpoints::new(&self.targets, self.balance, answers, &before.list));
            before
        };
        self.changed.send_replace(());
        let former = before.answers.get(name).map(Arc::as_ref).unwrap_or_default();
        let only = |these: &[IpAddr], others: &[IpAddr]| -> Vec<IpAddr> {
            these.iter().filter(|address| !others.contains(address)).copied().collect()
        };
        let (came, went) = (only(&addresses, former), only(former, &addresses));
        match addresses.is_empty() {
            false => info!(tenant = self.tenant, %name, ?came, ?went, "a backend's name has other addresses"),
            true => {
                warn!(tenant = self.tenant, %name, ?went, "a backend's name has no address: it gets no connections")
            }
        }
    }

    /// Connects `client` by `dial` to the backend whose turn it is, and to the next ones as long as that fails and
    /// `time_limit`, which holds for all attempts together, is not over. An attempt gets an equal share of the time
    /// that is left, so that a backend that swallows SYNs does not use up the others' time. Where nobody can be tried
    /// because names have not been answered for yet, the answers are waited for.
    ///
    /// The error is the last attempt's; [`DialError::NoneHealthy`] or [`DialError::NoAddress`] where there was nobody
    /// to try.
    pub async fn connect<T>(
        &self,
        client: IpAddr,
        time_limit: Duration,
        mut dial: impl AsyncFnMut(&Endpoint, Duration) -> Result<T, DialError>,
    ) -> Result<(T, Lease), DialError> {
        let deadline = Instant::now() + time_limit;
        let endpoints = self.answered(deadline).await;
        let mut tried = Vec::new();
        let mut last_error = None;
        loop {
            let Some(lease) = Lease::take(&endpoints, client, &tried) else {
                return Err(last_error.unwrap_or_else(|| nobody(&endpoints)));
            };
            let others = endpoints.candidates(&tried).count().saturating_sub(1);
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left.div_f64((others + 1) as f64);
            match dial(&lease.backend().endpoint, share).await {
                Ok(connected) => {
                    lease.backend().state.health.worked();
                    return Ok((connected, lease));
                }
                Err(error) => {
                    if error.is_the_backends() {
                        self.observe(lease.backend(), Err(&error));
                    }
                    // What one backend said tells more than that another one could not be asked.
                    let error = match last_error.take() {
                        Some(said) if matches!(error, DialError::OtherFamily { .. }) => said,
                        _ => error,
                    };
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
        let endpoints = self.current();
        let index = endpoints.list.iter().position(|backend| backend.endpoint.address == address)?;
        endpoints.list[index].state.active.fetch_add(1, Ordering::Relaxed);
        Some(Lease { endpoints, index })
    }

    /// Whether there is a health check.
    pub fn are_checked(&self) -> bool {
        self.check.is_some()
    }

    /// Every backend's state, in the order of the configuration; then the names that have no address.
    pub fn states(&self) -> Vec<BackendState> {
        let endpoints = self.current();
        let state = |Backend { endpoint, state, .. }: &Backend| BackendState {
            address: endpoint.address.to_string(),
            name: endpoint.name.as_ref().map(|name| format!("{name}:{}", endpoint.address.port())),
            up: state.health.is_up(),
            active: state.active.load(Ordering::Relaxed),
        };
        let missing = endpoints.without_address.iter().map(ToString::to_string);
        let missing =
            missing.map(|name| BackendState { address: name.clone(), name: Some(name), up: false, active: 0 });
        endpoints.list.iter().map(state).chain(missing).collect()
    }

    /// Every endpoint of the moment, whatever its weight and its health.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.current().list.iter().map(|backend| backend.endpoint.clone()).collect()
    }

    /// Whether every name has been answered for, be it with nothing.
    pub fn are_answered(&self) -> bool {
        !self.current().is_waiting
    }

    /// Tells of each new set of endpoints.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn current(&self) -> Arc<Endpoints> {
        Arc::clone(&self.endpoints.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The endpoints, once there is somebody to try or no answer missing.
    async fn answered(&self, deadline: Instant) -> Arc<Endpoints> {
        let endpoints = self.current();
        if !endpoints.is_waiting {
            return endpoints;
        }
        let mut changes = self.changed.subscribe();
        loop {
            let endpoints = self.current();
            let is_settled = !endpoints.is_waiting || endpoints.candidates(&[]).next().is_some();
            if is_settled || timeout_at(deadline, changes.changed()).await.is_err() {
                return endpoints;
            }
        }
    }

    /// Takes note of a probe, or of a connection that failed, and says so when it changes what the backend gets.
    fn observe(&self, backend: &Backend, result: Result<(), &DialError>) {
        let Some(check) = &self.check else { return };
        let (tenant, address) = (&self.tenant, backend.endpoint.address);
        match backend.state.health.observe(result.is_ok(), check) {
            Verdict::AsBefore => {}
            Verdict::CameUp => info!(tenant, backend = %address, "backend is healthy again"),
            Verdict::WentDown => {
                let left = self.current().candidates(&[]).count();
                let reason = result.err().map(ToString::to_string).unwrap_or_default();
                warn!(tenant, backend = %address, healthy = left, reason, "backend is unhealthy and gets no connections");
            }
        }
    }
}

fn nobody(endpoints: &Endpoints) -> DialError {
    match endpoints.without_address.first() {
        Some(name) if endpoints.list.is_empty() => DialError::NoAddress { name: name.to_string() },
        _ => DialError::NoneHealthy { backends: endpoints.list.len() + endpoints.without_address.len() },
    }
}

impl Lease {
    fn take(endpoints: &Arc<Endpoints>, client: IpAddr, tried: &[usize]) -> Option<Self> {
        let is_candidate = |index| endpoints.is_candidate(index, tried);
        let index = endpoints.picker.pick(&endpoints.list, client, is_candidate)?;
        endpoints.list[index].state.active.fetch_add(1, Ordering::Relaxed);
        Some(Self { endpoints: Arc::clone(endpoints), index })
    }

    /// Where the backend listens.
    pub fn address(&self) -> SocketAddr {
        self.backend().endpoint.address
    }

    fn backend(&self) -> &Backend {
        &self.endpoints.list[self.index]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend().state.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
