//! When a terminator that was started by a connection may stop: nobody has been there for `idleStop`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Shared;

/// Resolves after `limit` without a connection; never where there is no limit.
pub(super) async fn idle(shared: &Shared, limit: Option<Duration>) {
    let Some(limit) = limit else { return std::future::pending().await };
    let tick = (limit / 10).clamp(SHORTEST_TICK, LONGEST_TICK);
    let mut ended = shared.ended();
    let mut since = Instant::now();
    while since.elapsed() < limit {
        sleep(tick).await;
        let now = shared.ended();
        if shared.active() > 0 || now != ended {
            (ended, since) = (now, Instant::now());
        }
    }
}

/// A look costs some loads from memory.
const SHORTEST_TICK: Duration = Duration::from_millis(10);
const LONGEST_TICK: Duration = Duration::from_secs(1);
