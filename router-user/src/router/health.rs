//! Health checks of the Passthrough tenants' backends, on a thread of their own: a worker never waits for a probe, and
//! probes never wait for a worker.

use std::io;
use std::sync::Arc;

use ::connection::backends::probe;
use tokio::task::JoinSet;

use super::worker::Shared;

/// Starts the thread where there is something to check; it lives as long as the process.
pub(super) fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    let checked = shared.backends.iter().flatten().filter(|backends| backends.are_checked());
    let checked: Vec<_> = checked.cloned().collect();
    if checked.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("health".to_owned()).spawn(move || {
        runtime.block_on(async {
            let probes: JoinSet<()> = checked.into_iter().map(probe).collect();
            probes.join_all().await;
        });
    })?;
    Ok(())
}
