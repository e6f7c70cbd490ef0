//! Children that have no place any more: accompanied to their end, told of a stop, never started again.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::child::{Ended, Role, StopPhase};
use super::process::Process;

/// Accompanies a terminator that another one has replaced to its end, which is that of its connections.
pub(super) async fn see_off_terminator(
    role: Role,
    mut former: Process,
    mut stop: watch::Receiver<StopPhase>,
) -> (Role, Ended) {
    // Each branch may be dropped: waiting can begin anew.
    for (phase, signal) in [(StopPhase::Terminators, Signal::SIGTERM), (StopPhase::Now, Signal::SIGKILL)] {
        tokio::select! {
            _ = former.wait() => return (role, Ended::Stopped),
            _ = stop.wait_for(|reached| *reached >= phase) => former.tell(signal),
        }
    }
    let _ = former.wait().await;
    (role, Ended::Stopped)
}

/// Accompanies a router that another one has replaced to its end, which is near unless its connections could not be handed
/// over.
pub(super) async fn see_off(mut former: Process, mut stop: watch::Receiver<StopPhase>) -> (Role, Ended) {
    let pid = former.pid();
    let ended = |status: io::Result<ExitStatus>| {
        if let Ok(status) = status {
            info!(pid, %status, "the former router has ended");
        }
        (Role::FormerRouter, Ended::Stopped)
    };
    // Each branch may be dropped: waiting can begin anew.
    tokio::select! {
        status = former.wait() => return ended(status),
        () = sleep(LONGEST_HAND_OVER) => warn!(pid, "the former router has connections left and drains"),
        _ = stop.wait_for(|phase| *phase >= StopPhase::Router) => former.tell(Signal::SIGTERM),
    }
    tokio::select! {
        status = former.wait() => return ended(status),
        _ = stop.wait_for(|phase| *phase == StopPhase::Now) => former.tell(Signal::SIGKILL),
    }
    ended(former.wait().await)
}

/// Handing over takes milliseconds, a client that is refused may take a second to close, and grace periods of the kernel take
/// seconds where its own threads get no processor.
const LONGEST_HAND_OVER: Duration = Duration::from_secs(5);
