//! Tells one tenant's terminator what its names stand for, at once and at each change: its health checks need it when
//! no connection comes. Workers tell it ahead of the connections that they hand over. Tells the prober, too.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::connection::handoff::{HandoffError, HandoffSender, ResolvedName};
use config::{Mode, Startup};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use super::Names;
use crate::router::TenantState;

/// Until the task is aborted.
pub(super) async fn announce(socket: PathBuf, tenant: Arc<TenantState>, names: Arc<Names>) {
    let is_always_there =
        matches!(&tenant.settings.mode, Mode::Terminate(terminate) if terminate.startup == Startup::Always);
    let mut changes = names.follow();
    loop {
        changes.borrow_and_update();
        if let Ok(sender) = HandoffSender::connect(&socket) {
            let ended = keep_telling(&sender, std::slice::from_ref(&tenant), &names, &mut changes).await;
            debug!(tenant = tenant.settings.name, ?ended, "a terminator is told of names no more");
        }
        // One that is started by a connection hears from the worker that hands that over.
        if is_always_there {
            sleep(RECONNECT_PAUSE).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the prober what these tenants' names stand for. Until the task is aborted.
pub(super) async fn announce_to_prober(socket: PathBuf, tenants: Vec<Arc<TenantState>>, names: Arc<Names>) {
    let mut changes = names.follow();
    loop {
        changes.borrow_and_update();
        if let Ok(sender) = HandoffSender::connect(&socket) {
            let ended = keep_telling(&sender, &tenants, &names, &mut changes).await;
            debug!(?ended, "the prober is told of names no more");
        }
        sleep(RECONNECT_PAUSE).await;
    }
}

/// Until the other process is gone.
async fn keep_telling(
    sender: &HandoffSender,
    tenants: &[Arc<TenantState>],
    names: &Names,
    changes: &mut watch::Receiver<()>,
) -> Result<(), HandoffError> {
    let mut told: HashMap<String, ResolvedName> = HashMap::new();
    loop {
        for resolved in tenants.iter().flat_map(|tenant| names.of(&tenant.settings)) {
            if told.get(&resolved.name) != Some(&resolved) {
                sender.send_addresses(&resolved).await?;
                told.insert(resolved.name.clone(), resolved);
            }
        }
        tokio::select! {
            () = sender.closed() => return Ok(()),
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// A terminator that is down is looked for this often.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
