//! One child process: started, restarted with backoff, drained on request.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use super::backoff::Backoff;

/// What a child is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Router,
    Terminator { tenant: String },
}

/// A child that is kept running.
#[derive(Debug)]
pub(super) struct Child {
    role: Role,
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// How far a stop has come. Later phases include the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopPhase {
    Running,
    /// The router drains, terminators still take its hand-offs.
    Router,
    /// Terminators drain too.
    Terminators,
    /// Nobody waits any longer.
    Now,
}

/// Why a child is no longer kept running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A stop was asked for.
    Stopped,
    /// It could not start.
    Failed { exit_code: u8 },
}

impl Child {
    pub(super) fn router(program: &Path, config_file: &Path) -> Self {
        let arguments = vec!["router".into(), "--config".into(), config_file.into(), "--supervised".into()];
        Self { role: Role::Router, program: program.into(), arguments }
    }

    pub(super) fn terminator(program: &Path, config_file: &Path, tenant: &str, socket: &Path) -> Self {
        let arguments = vec![
            "serve".into(),
            "--config".into(),
            config_file.into(),
            "--tenant".into(),
            tenant.into(),
            "--socket".into(),
            socket.into(),
            "--supervised".into(),
        ];
        Self { role: Role::Terminator { tenant: tenant.to_owned() }, program: program.into(), arguments }
    }

    /// Starts the child again and again until a stop. A router whose first start fails ends it too: a port that is
    /// taken does not mend itself, and nobody else would tell.
    pub(super) async fn keep_running(self, mut stop: watch::Receiver<StopPhase>) -> (Role, Ended) {
        let mut backoff = Backoff::new();
        let mut first_start = true;
        while *stop.borrow() < self.role.stops_at() {
            let started = Instant::now();
            match self.run_once(&mut stop).await {
                Ok(status) if *stop.borrow() >= self.role.stops_at() => {
                    info!(process = %self.role, %status, "ended");
                    break;
                }
                Ok(status) => {
                    warn!(process = %self.role, %status, "ended unasked");
                    if let (Role::Router, true, Some(code)) = (&self.role, first_start, status.code()) {
                        return (self.role, Ended::Failed { exit_code: u8::try_from(code).unwrap_or(2) });
                    }
                }
                Err(error) => {
                    warn!(process = %self.role, program = %self.program.display(), %error, "could not be started");
                }
            }
            first_start = false;
            let pause = backoff.pause(started.elapsed());
            // A stop ends the pause; the loop's condition sees it.
            let _ = timeout(pause, stop.wait_for(|phase| *phase >= self.role.stops_at())).await;
        }
        (self.role, Ended::Stopped)
    }

    async fn run_once(&self, stop: &mut watch::Receiver<StopPhase>) -> io::Result<ExitStatus> {
        let mut process = Command::new(&self.program)
            .args(&self.arguments)
            // Its end tells the child that the supervisor is gone.
            .stdin(Stdio::piped())
            // A Ctrl-C in the terminal reaches the supervisor alone, which then drains in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = process.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        // wait() closes the child's standard input, so the lifeline is held apart from it.
        let _lifeline = process.stdin.take();
        info!(process = %self.role, pid = pid.map(Pid::as_raw), "started");
        // Dropping wait() loses nothing: it can be called again (tokio::process::Child::wait).
        tokio::select! {
            status = process.wait() => return status,
            _ = stop.wait_for(|phase| *phase >= self.role.stops_at()) => terminate(pid),
        }
        tokio::select! {
            status = process.wait() => return status,
            _ = stop.wait_for(|phase| *phase == StopPhase::Now) => terminate(pid),
        }
        match timeout(LAST_WORDS, process.wait()).await {
            Ok(status) => status,
            Err(_) => {
                process.start_kill()?;
                process.wait().await
            }
        }
    }
}

impl Role {
    fn stops_at(&self) -> StopPhase {
        match self {
            Self::Router => StopPhase::Router,
            Self::Terminator { .. } => StopPhase::Terminators,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Router => write!(f, "router"),
            Self::Terminator { tenant } => write!(f, "terminator/{tenant}"),
        }
    }
}

/// SIGTERM: the first drains, the second stops at once. A child that is gone already is what we want.
fn terminate(pid: Option<Pid>) {
    if let Some(pid) = pid {
        let _ = kill(pid, Signal::SIGTERM);
    }
}

/// What a child gets between its second SIGTERM and SIGKILL, to close its connections and flush its log.
const LAST_WORDS: Duration = Duration::from_secs(1);
