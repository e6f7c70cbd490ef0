//! Health checks of the Passthrough tenants' backends, on a thread of their own: a worker never waits for a probe, and
//! probes never wait for a worker.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use ::connection::Backends;
use ::connection::backends::{ConnectProbe, probe};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::policy::{LivePolicy, Policy};

/// Starts the thread; it lives as long as the process.
pub(super) fn spawn(policy: &LivePolicy) -> io::Result<()> {
    let policy = policy.follow();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("health".to_owned()).spawn(move || runtime.block_on(keep_probing(policy)))?;
    Ok(())
}

/// Probes what the policy in force has, until there is no router any more.
async fn keep_probing(mut policy: watch::Receiver<Arc<Policy>>) {
    // Holding the backends keeps their addresses, which are the keys, from being used again.
    let mut probed: HashMap<*const Backends, (Arc<Backends>, AbortHandle)> = HashMap::new();
    loop {
        let current = policy.borrow_and_update().clone();
        let mut before = std::mem::take(&mut probed);
        for tenant in &current.tenants {
            let Some(backends) = tenant.backends.as_ref().filter(|backends| backends.are_checked()) else { continue };
            let entry = before.remove(&Arc::as_ptr(backends)).unwrap_or_else(|| {
                let probes = tokio::spawn(probe(backends.clone(), ConnectProbe::of(&tenant.settings)));
                (backends.clone(), probes.abort_handle())
            });
            probed.insert(Arc::as_ptr(backends), entry);
        }
        before.into_values().for_each(|(_, probes)| probes.abort());
        drop(current);
        if policy.changed().await.is_err() {
            return;
        }
    }
}
