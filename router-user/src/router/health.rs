//! Health checks of the Passthrough tenants' backends, on a thread of their own: a worker never waits for a probe, and
//! probes never wait for a worker.

use std::io;
use std::sync::Arc;

use ::connection::backends::{ConnectProbe, probe};
use tokio::task::JoinSet;

use super::worker::Shared;

/// Starts the thread where there is something to check; it lives as long as the process.
pub(super) fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    let tenants = shared.backends.iter().zip(&shared.config.tenants);
    let backends = tenants.filter_map(|(backends, tenant)| Some((backends.clone()?, ConnectProbe::of(tenant))));
    let checked: Vec<_> = backends.filter(|(backends, _)| backends.are_checked()).collect();
    if checked.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("health".to_owned()).spawn(move || {
        runtime.block_on(async {
            let probes: JoinSet<()> = checked.into_iter().map(|(backends, how)| probe(backends, how)).collect();
            probes.join_all().await;
        });
    })?;
    Ok(())
}
