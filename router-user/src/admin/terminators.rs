//! Watches the terminators for the admin endpoint: which are up, how often each came back, what each counts.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use config::{Config, Mode};
use connection::handoff::{HandoffSender, TerminatorStatus};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::metrics::TerminatorReport;

/// All terminators of a configuration.
#[derive(Debug)]
pub(super) struct Terminators {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    tenant: usize,
    socket: PathBuf,
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    up: Cell<bool>,
    restarts: Cell<u64>,
}

impl Terminators {
    /// Starts one watching task per Terminate tenant on the current LocalSet.
    pub(super) fn watch(config: &Config) -> Self {
        let watched = config.tenants.iter().enumerate().filter_map(|(tenant, settings)| match settings.mode {
            Mode::Passthrough => None,
            Mode::Terminate(_) => {
                let socket = config.handoff_socket(&settings.name);
                let state = Rc::new(State::default());
                tokio::task::spawn_local(follow(socket.clone(), state.clone()));
                Some(Watched { tenant, socket, state })
            }
        });
        Self { watched: watched.collect() }
    }

    /// Asks all terminators at once; one that does not answer in time is reported without its counters.
    pub(super) async fn reports(&self) -> Vec<TerminatorReport> {
        let mut asked = JoinSet::new();
        for watched in &self.watched {
            asked.spawn_local(watched.report());
        }
        let mut reports = asked.join_all().await;
        reports.sort_by_key(|report| report.tenant);
        reports
    }

    /// Asks one; `None` where the tenant has none.
    pub(super) async fn report(&self, tenant: usize) -> Option<TerminatorReport> {
        let watched = self.watched.iter().find(|watched| watched.tenant == tenant)?;
        Some(watched.report().await)
    }
}

impl Watched {
    fn report(&self) -> impl Future<Output = TerminatorReport> + 'static {
        let (tenant, socket) = (self.tenant, self.socket.clone());
        let (up, restarts) = (self.state.up.get(), self.state.restarts.get());
        async move {
            let status = if up { ask(&socket).await } else { None };
            TerminatorReport { tenant, up, restarts, status }
        }
    }
}

async fn ask(socket: &Path) -> Option<TerminatorStatus> {
    let sender = HandoffSender::connect(socket).ok()?;
    timeout(STATUS_PATIENCE, sender.status()).await.ok()?.ok()
}

/// Holds a connection to the terminator: it is up for as long as that lives.
async fn follow(socket: PathBuf, state: Rc<State>) {
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
const STATUS_PATIENCE: Duration = Duration::from_secs(1);

/// A terminator that is down is looked for this often.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
