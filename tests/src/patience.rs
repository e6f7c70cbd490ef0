//! Waiting for a condition with a deadline, so that no test sleeps for a guessed time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks until there is an answer; an error names what did not happen in time.
pub fn eventually<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("not within {limit:?}: {what}");
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// How long anything may take that normally takes milliseconds: two cores run all scenarios and a compiler at once.
pub const PATIENCE: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(10);
