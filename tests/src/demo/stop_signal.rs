//! Ctrl-C and SIGTERM as something to ask for, without a handler.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGINT and SIGTERM, blocked and waiting to be asked for.
pub(super) struct StopSignal(SignalFd);

impl StopSignal {
    /// Blocks both in this thread and in all that it starts later.
    pub(super) fn block() -> Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block().context("block signals")?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        SignalFd::with_flags(&signals, flags).context("signalfd").map(Self)
    }

    /// Waits a moment for one of them.
    pub(super) fn arrived(&mut self) -> Result<bool> {
        if self.0.read_signal().context("read a signal")?.is_some() {
            return Ok(true);
        }
        thread::sleep(POLL_INTERVAL);
        Ok(false)
    }
}

/// Short enough for a person not to notice.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
