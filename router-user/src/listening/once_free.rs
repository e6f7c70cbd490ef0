//! Binds again while another socket has the port: a listener that was closed just now is there until those who wait at it are
//! served, which takes a busy one a second.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::BindError;

/// What `bind` gives, or its error when the port stays taken.
pub(crate) async fn once_free<T>(bind: impl Fn() -> Result<T, BindError>) -> Result<T, BindError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bind() {
            Err(error) if error.is_taken() && Instant::now() < deadline => sleep(PAUSE).await,
            bound => return bound,
        }
    }
}

/// More than the second, and short for whoever has given a port that another program has.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
