//! One child process: started, restarted with backoff, drained on request.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::memory_groups::out_of_memory_kills;
use super::on_demand::OnDemand;
use crate::listening::ListeningSockets;
use crate::supervision::{Answer, Line};

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
    /// What a router finds when it comes.
    seat: Option<Seat>,
    /// Where its memory is limited.
    memory_group: Option<PathBuf>,
    /// Where the child is started when it is asked for.
    on_demand: Option<OnDemand>,
    /// Whether it has been asked for already.
    is_wanted: bool,
    /// Whether another one has taken its place, because it takes nothing new.
    has_successor: bool,
}

/// The line to the router that runs, if one does.
pub(super) type RouterLine = Arc<Mutex<Option<Line>>>;

/// The place of the router: what its processes find there, and where they leave the line to themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct Seat {
    pub(super) line: RouterLine,
    pub(super) sockets: Sockets,
}

/// The listening sockets, which outlive the router's processes.
#[derive(Clone, Debug, Default)]
pub(super) struct Sockets(Arc<std::sync::Mutex<ListeningSockets>>);

impl Sockets {
    pub(super) fn new(sockets: ListeningSockets) -> Self {
        Self(Arc::new(std::sync::Mutex::new(sockets)))
    }

    /// Looks at them or changes them.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut ListeningSockets) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes all of them: once the router has closed its own, connections are refused.
    pub(super) fn close(&self) {
        self.with(|sockets| *sockets = ListeningSockets::default());
    }
}

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
    pub(super) fn router(program: &Path, config_file: &Path, seat: Seat) -> Self {
        let arguments = vec!["router".into(), "--config".into(), config_file.into(), "--supervised".into()];
        let (_never, retired) = watch::channel(false);
        Self {
            role: Role::Router,
            program: program.into(),
            arguments,
            retired,
            seat: Some(seat),
            memory_group: None,
            on_demand: None,
            is_wanted: true,
            has_successor: false,
        }
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
        let child = Self {
            role,
            program: program.into(),
            arguments,
            retired,
            seat: None,
            memory_group: None,
            on_demand: None,
            is_wanted: true,
            has_successor: false,
        };
        (child, Retirement(retire))
    }

    /// The same, with its memory limited in this cgroup, if there is one.
    pub(super) fn in_group(mut self, group: Option<PathBuf>) -> Self {
        if let Some(group) = &group {
            self.arguments.extend(["--memory-group".into(), group.into()]);
        }
        self.memory_group = group;
        self
    }

    /// The same, but only when it is asked for.
    pub(super) fn on_demand(self, on_demand: OnDemand) -> Self {
        Self { on_demand: Some(on_demand), is_wanted: false, ..self }
    }

    /// Another one that takes its place at once.
    fn successor(&self) -> Self {
        Self {
            role: self.role.clone(),
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            retired: self.retired.clone(),
            seat: self.seat.clone(),
            memory_group: self.memory_group.clone(),
            on_demand: self.on_demand.clone(),
            is_wanted: true,
            has_successor: false,
        }
    }

    /// Starts the child again and again until a stop or its retirement. A router whose first start fails ends it too: a port that is
    /// taken does not mend itself, and nobody else would tell.
    pub(super) async fn keep_running(mut self, mut stop: watch::Receiver<StopPhase>) -> (Role, Ended) {
        let mut backoff = Backoff::new();
        let mut first_start = true;
        while *stop.borrow() < self.role.stops_at() && !*self.retired.borrow() {
            if !self.is_wanted {
                self.wait_until_asked_for(&mut stop).await;
                continue;
            }
            let started = Instant::now();
            let kills_before = self.memory_group.as_deref().map_or(0, out_of_memory_kills);
            let result = self.run_once(&mut stop).await;
            if let Some(on_demand) = &mut self.on_demand {
                on_demand.forget();
                self.is_wanted = false;
            }
            match result {
                Ok(status)
                    if *stop.borrow() >= self.role.stops_at() || *self.retired.borrow() || self.has_successor =>
                {
                    info!(process = %self.role, %status, "ended");
                    break;
                }
                Ok(status) if self.on_demand.is_some() && status.success() => {
                    info!(process = %self.role, "stopped until a connection asks for it");
                    continue;
                }
                Ok(status) => {
                    let kills = self.memory_group.as_deref().map_or(0, out_of_memory_kills);
                    if kills > kills_before {
                        warn!(process = %self.role, %status, "out of memory: it used more than sandbox.memoryMax");
                    } else {
                        warn!(process = %self.role, %status, "ended unasked");
                    }
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

    /// Until the child is to be started, or never will be.
    async fn wait_until_asked_for(&mut self, stop: &mut watch::Receiver<StopPhase>) {
        let stops_at = self.role.stops_at();
        tokio::select! {
            () = wanted(&mut self.on_demand) => self.is_wanted = true,
            _ = stop.wait_for(|phase| *phase >= stops_at) => {}
            () = is_retired(&mut self.retired) => {}
        }
    }

    async fn run_once(&mut self, stop: &mut watch::Receiver<StopPhase>) -> io::Result<ExitStatus> {
        // Its end tells the child that the supervisor is gone.
        let (stdin, seat) = match &self.seat {
            None => (Stdio::piped(), None),
            Some(seat) => {
                let (ours, theirs) = Line::pair()?;
                (theirs.into(), Some((seat.clone(), ours)))
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
        let mut taking_seat = pin!(async {
            if let Some((seat, line)) = seat {
                take_seat(&seat, line).await;
            }
            std::future::pending::<()>().await;
        });
        // Dropping wait() loses nothing: it can be called again (tokio::process::Child::wait).
        let started = tokio::time::Instant::now();
        let mut retiring = false;
        loop {
            tokio::select! {
                status = process.wait() => return status,
                () = &mut taking_seat => {}
                () = wanted_again(&mut self.on_demand, started), if !retiring && !self.has_successor => {
                    self.has_successor = true;
                    if let Some(on_demand) = &self.on_demand {
                        on_demand.succeed(self.successor());
                    }
                }
                _ = stop.wait_for(|phase| *phase >= self.role.stops_at()) => break tell(pid, Signal::SIGTERM),
                () = is_retired(&mut self.retired), if !retiring => {
                    retiring = true;
                    tell(pid, Signal::SIGUSR1);
                }
            }
        }
        tokio::select! {
            status = process.wait() => return status,
            () = &mut taking_seat => {}
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

/// Gives a router that starts its sockets. Orders may be given from the moment on at which it serves.
async fn take_seat(seat: &Seat, line: Line) {
    *seat.line.lock().await = None;
    let started = async {
        let sockets = seat.sockets.with(|sockets| sockets.share())?;
        line.give_start(&sockets).await?;
        // Ours end here, so that nobody but the router has a listener that a reload takes away.
        drop(sockets);
        line.wait_for_answer().await
    };
    match started.await {
        Ok(Answer::Done) => *seat.line.lock().await = Some(line),
        Ok(Answer::Refused(why)) => warn!(why, "the router does not start"),
        // It says why itself, if it can, and its end is seen.
        Err(error) => debug!(%error, "the router has not started"),
    }
}

async fn wanted(on_demand: &mut Option<OnDemand>) {
    match on_demand {
        Some(on_demand) => on_demand.wanted().await,
        None => std::future::pending().await,
    }
}

async fn wanted_again(on_demand: &mut Option<OnDemand>, started: tokio::time::Instant) {
    match on_demand {
        Some(on_demand) => on_demand.wanted_again(started).await,
        None => std::future::pending().await,
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
