//! Active health checks: a TCP connection to each backend at each interval, closed at once.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Backends;
use crate::dial_announced;

/// Probes for ever; returns at once where no check is configured. Dropping it ends the probes.
pub async fn probe(backends: Arc<Backends>) {
    let Some(check) = backends.check else { return };
    let mut probes = JoinSet::new();
    for index in 0..backends.list.len() {
        let backends = Arc::clone(&backends);
        probes.spawn(async move {
            let mut turns = interval(check.interval);
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                turns.tick().await;
                let address = backends.list[index].address;
                match dial_announced(address, check.timeout, &backends.probe_header).await {
                    Ok(_connection) => backends.observe(index, true),
                    Err(error) if error.is_the_backends() => backends.observe(index, false),
                    // What this host lacks says nothing about the backend.
                    Err(_) => {}
                }
            }
        });
    }
    probes.join_all().await;
}
