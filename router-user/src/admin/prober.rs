//! Watches the prober of certificates for the admin endpoint: whether it is up, and what it has seen.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use connection::handoff::{HandoffSender, ProberStatus};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use super::terminators::{STATUS_PATIENCE, State, follow};
use crate::metrics::ProberReport;
use crate::router::Policy;

/// The prober, where the policy in force has a use for it.
#[derive(Debug, Default)]
pub(super) struct Prober {
    watched: RefCell<Option<Watched>>,
}

#[derive(Debug)]
struct Watched {
    socket: PathBuf,
    state: Rc<State>,
    follower: AbortHandle,
}

impl Prober {
    /// Watches it from now on, or no longer. On the current LocalSet.
    pub(super) fn watch(&self, policy: &Policy) {
        let mut watched = self.watched.borrow_mut();
        let is_needed = policy.config.probed().next().is_some();
        if is_needed && watched.is_none() {
            let (socket, state) = (policy.config.prober_socket(), Rc::<State>::default());
            let follower = spawn_local(follow(socket.clone(), state.clone())).abort_handle();
            *watched = Some(Watched { socket, state, follower });
        } else if !is_needed && let Some(former) = watched.take() {
            former.follower.abort();
        }
    }

    /// Asks it; `None` where nobody is probed. What it tells of others than the tenants that are probed is left out.
    pub(super) async fn report(&self, policy: &Policy) -> Option<ProberReport> {
        let (socket, up) = {
            let watched = self.watched.borrow();
            let watched = watched.as_ref()?;
            (watched.socket.clone(), watched.state.up.get())
        };
        let ProberStatus { sandbox, probes, mut backends, .. } =
            if up { ask(&socket).await.unwrap_or_default() } else { ProberStatus::default() };
        let probed: HashSet<&str> = policy.config.probed().map(|tenant| tenant.name.as_str()).collect();
        backends.retain(|backend| probed.contains(backend.tenant.as_str()));
        Some(ProberReport { up, sandbox, probes, backends })
    }
}

async fn ask(socket: &Path) -> Option<ProberStatus> {
    let sender = HandoffSender::connect(socket).ok()?;
    timeout(STATUS_PATIENCE, sender.probed()).await.ok()?.ok()
}
