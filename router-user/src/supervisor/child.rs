//! One child process: started, restarted with backoff, drained on request.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::backoff::Backoff;
use crate::supervision::Line;

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
    /// True once somebody else has taken its place.
    retired: watch::Receiver<bool>,
    /// Where to put the line to a router.
    line: Option<RouterLine>,
}

/// The line to the router that runs, if one does.
pub(super) type RouterLine = Arc<Mutex<Option<Line>>>;

/// Retires a terminator: it takes nothing new, and ends when its last connection has.
#[derive(Debug)]
pub(super) struct Retirement(watch::Sender<bool>);

impl Retirement {
    pub(super) fn retire(self) {
        self.0.send_replace(true);
    }
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
    pub(super) fn router(program: &Path, config_file: &Path, line: RouterLine) -> Self {
        let arguments = vec!["router".into(), "--config".into(), config_file.into(), "--supervised".into()];
        let (_never, retired) = watch::channel(false);
        Self { role: Role::Router, program: program.into(), arguments, retired, line: Some(line) }
    }

    pub(super) fn terminator(program: &Path, config_file: &Path, tenant: &str, socket: &Path) -> (Self, Retirement) {
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
        let (retire, retired) = watch::channel(false);
        let role = Role::Terminator { tenant: tenant.to_owned() };
        (Self { role, program: program.into(), arguments, retired, line: None }, Retirement(retire))
    }

    /// Starts the child again and again until a stop or its retirement. A router whose first start fails ends it too: a port that is
    /// taken does not mend itself, and nobody else would tell.
    pub(super) async fn keep_running(mut self, mut stop: watch::Receiver<StopPhase>) -> (Role, Ended) {
        let mut backoff = Backoff::new();
        let mut first_start = true;
        while *stop.borrow() < self.role.stops_at() && !*self.retired.borrow() {
            let started = Instant::now();
            match self.run_once(&mut stop).await {
                Ok(status) if *stop.borrow() >= self.role.stops_at() || *self.retired.borrow() => {
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
            // Whoever ends the pause, the loop's condition sees it.
            let stops_at = self.role.stops_at();
            let stopped = async { drop(stop.wait_for(|phase| *phase >= stops_at).await) };
            tokio::select! {
                () = sleep(pause) => {}
                () = stopped => {}
                () = is_retired(&mut self.retired) => {}
            }
        }
        (self.role, Ended::Stopped)
    }

    async fn run_once(&mut self, stop: &mut watch::Receiver<StopPhase>) -> io::Result<ExitStatus> {
        // Its end tells the child that the supervisor is gone.
        let (stdin, line) = match &self.line {
            None => (Stdio::piped(), None),
            Some(_) => {
                let (ours, theirs) = Line::pair()?;
                (theirs.into(), Some(ours))
            }
        };
        let mut process = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(stdin)
            // A Ctrl-C in the terminal reaches the supervisor alone, which then drains in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = process.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        // wait() closes the child's standard input, so the lifeline is held apart from it.
        let _lifeline = process.stdin.take();
        info!(process = %self.role, pid = pid.map(Pid::as_raw), "started");
        if let Some(slot) = &self.line {
            *slot.lock().await = line;
        }
        // Dropping wait() loses nothing: it can be called again (tokio::process::Child::wait).
        let mut retiring = false;
        loop {
            tokio::select! {
                status = process.wait() => return status,
                _ = stop.wait_for(|phase| *phase >= self.role.stops_at()) => break tell(pid, Signal::SIGTERM),
                () = is_retired(&mut self.retired), if !retiring => {
                    retiring = true;
                    tell(pid, Signal::SIGUSR1);
                }
            }
        }
        tokio::select! {
            status = process.wait() => return status,
            _ = stop.wait_for(|phase| *phase == StopPhase::Now) => tell(pid, Signal::SIGTERM),
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

/// Resolves once the child's place is taken; never where nobody is left who could say so.
async fn is_retired(retired: &mut watch::Receiver<bool>) {
    if retired.wait_for(|retired| *retired).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The first SIGTERM drains, the second stops at once; SIGUSR1 retires a terminator. A child that is gone already is what
/// we want.
fn tell(pid: Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        let _ = kill(pid, signal);
    }
}

/// What a child gets between its second SIGTERM and SIGKILL, to close its connections and flush its log.
const LAST_WORDS: Duration = Duration::from_secs(1);
