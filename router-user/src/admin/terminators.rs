//! Watches the terminators for the admin endpoint: which are up, how often each came back, what each counts.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::{Mode, Startup};
use connection::handoff::{HandoffSender, TerminatorStatus};
use tokio::task::{AbortHandle, JoinSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::metrics::TerminatorReport;
use crate::router::{Policy, TenantState};

/// The terminators of the policy in force.
#[derive(Debug, Default)]
pub(super) struct Terminators {
    /// By the tenant's name.
    watched: RefCell<HashMap<String, Watched>>,
}

#[derive(Debug)]
struct Watched {
    /// A terminator that a reload replaces belongs to another one.
    tenant: Arc<TenantState>,
    socket: PathBuf,
    state: Rc<State>,
    /// `None` where it is started by a connection.
    follower: Option<AbortHandle>,
}

/// What is seen of a process at the other end of a hand-off socket.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) up: Cell<bool>,
    restarts: Cell<u64>,
}

impl Watched {
    /// Looks no longer; what was counted stays.
    fn end(self) -> Rc<State> {
        self.follower.iter().for_each(AbortHandle::abort);
        self.state
    }
}

impl Terminators {
    /// Keeps one watching task per Terminate tenant of `policy` on the current LocalSet.
    pub(super) fn watch(&self, policy: &Policy) {
        let mut watched = self.watched.borrow_mut();
        let mut before = std::mem::take(&mut *watched);
        for tenant in &policy.tenants {
            let Mode::Terminate(terminate) = &tenant.settings.mode else { continue };
            let name = &tenant.settings.name;
            let known = before.remove(name);
            let entry = match known {
                Some(same) if Arc::ptr_eq(&same.tenant, tenant) => same,
                known => {
                    let socket = policy.config.handoff_socket(name);
                    let state = known.map(Watched::end).unwrap_or_default();
                    let on_demand = terminate.startup != Startup::Always;
                    // A terminator that may well not be there is looked for when somebody asks.
                    let follower =
                        (!on_demand).then(|| spawn_local(follow(socket.clone(), state.clone())).abort_handle());
                    Watched { tenant: Arc::clone(tenant), socket, state, follower }
                }
            };
            watched.insert(name.clone(), entry);
        }
        before.into_values().for_each(|gone| drop(gone.end()));
    }

    /// Asks all terminators at once; one that does not answer in time is reported without its counters.
    pub(super) async fn reports(&self, policy: &Policy) -> Vec<TerminatorReport> {
        let mut asked = JoinSet::new();
        for (tenant, state) in policy.tenants.iter().enumerate() {
            if let Some(watched) = self.watched.borrow().get(&state.settings.name) {
                asked.spawn_local(watched.report(tenant));
            }
        }
        let mut reports = asked.join_all().await;
        reports.sort_by_key(|report| report.tenant);
        reports
    }

    /// Asks one; `None` where the tenant has none.
    pub(super) async fn report(&self, policy: &Policy, tenant: usize) -> Option<TerminatorReport> {
        let report = self.watched.borrow().get(&policy.tenants.get(tenant)?.settings.name)?.report(tenant);
        Some(report.await)
    }
}

impl Watched {
    fn report(&self, tenant: usize) -> impl Future<Output = TerminatorReport> + 'static {
        let (socket, on_demand) = (self.socket.clone(), self.follower.is_none());
        let (up, restarts) = (self.state.up.get(), self.state.restarts.get());
        async move {
            let status = if up || on_demand { ask(&socket).await } else { None };
            let up = up || status.is_some();
            TerminatorReport { tenant, up, on_demand, restarts, status }
        }
    }
}

async fn ask(socket: &Path) -> Option<TerminatorStatus> {
    let sender = HandoffSender::connect(socket).ok()?;
    timeout(STATUS_PATIENCE, sender.status()).await.ok()?.ok()
}

/// Holds a connection to the terminator: it is up for as long as that lives.
pub(super) async fn follow(socket: PathBuf, state: Rc<State>) {
    let mut seen_before = false;
    loop {
        if let Ok(sender) = HandoffSender::connect(&socket) {
            state.up.set(true);
            if std::mem::replace(&mut seen_before, true) {
                state.restarts.set(state.restarts.get() + 1);
            }
            sender.closed().await;
            state.up.set(false);
        }
        sleep(RECONNECT_PAUSE).await;
    }
}

/// A scrape waits this long for one terminator, well below Prometheus' default scrape time-out of 10 s.
pub(super) const STATUS_PATIENCE: Duration = Duration::from_secs(1);

/// A terminator that is down is looked for this often.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
