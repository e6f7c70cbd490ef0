//! Signals, and when and how the process ends: the supervisor's end, and the three steps of the drain.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use connection::Drain;
use connection::drain::tell_progress;
use connection::lifeline::supervisor_gone;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::Shared;
use super::idle::idle;

/// Everything that ends the process, installed before anything is served.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    retire: Signal,
    supervised: bool,
    reload: Arc<Notify>,
}

impl Signals {
    pub(super) fn new(supervised: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            retire: signal(SignalKind::user_defined1())?,
            supervised,
            reload: Arc::default(),
        })
    }

    /// Tells of each SIGHUP.
    pub(super) fn reload_wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.reload)
    }

    /// Waits for the reason to stop, then drains: no new connections, `timeout` for established ones, then by force.
    /// SIGUSR1 and idleness are no reasons to stop, only to take nothing new: a successor does, and established
    /// connections have all the time that they want.
    pub(super) async fn until_drained(mut self, drain: &Drain, timeout: Duration, shared: &Shared) {
        let mut reason = tokio::select! {
            reason = self.reason_to_drain() => reason,
            () = idle(shared, shared.tenant.idle_stop) => IDLE,
        };
        drain.start();
        while reason == RETIRED || reason == IDLE {
            info!(reason, connections = shared.active(), "retired: another one takes what is new");
            reason = tokio::select! {
                () = drain.finished() => return,
                reason = self.reason_to_drain() => reason,
            };
        }
        info!(reason, connections = shared.active(), ?timeout, "draining");
        let deadline = Instant::now() + timeout;
        tokio::select! {
            () = drain.finished() => return,
            never = tell_progress(|| shared.active()) => match never {},
            () = sleep_until(deadline) => warn!(connections = shared.active(), "drainTimeout is over: ending what is left"),
            signal = self.stop() => warn!(signal, connections = shared.active(), "ending what is left"),
        }
        drain.force();
        drain.finished().await;
    }

    async fn reason_to_drain(&mut self) -> &'static str {
        let supervised = self.supervised;
        // Every branch may be dropped: signals stay pending.
        tokio::select! {
            reason = self.stop() => reason,
            () = supervisor_gone(), if supervised => "the supervisor is gone",
        }
    }

    /// SIGTERM, or Ctrl-C where nobody supervises: a terminal's SIGINT goes to the whole process group, and the
    /// supervisor says itself when it wants to drain.
    async fn stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                Some(()) = self.retire.recv() => return RETIRED,
                Some(()) = self.terminate.recv() => return "SIGTERM",
                Some(()) = self.interrupt.recv(), if !self.supervised => return "SIGINT",
                Some(()) = self.hang_up.recv() => self.reload.notify_one(),
            }
        }
    }
}

const RETIRED: &str = "SIGUSR1";
const IDLE: &str = "no connection for idleStop";
