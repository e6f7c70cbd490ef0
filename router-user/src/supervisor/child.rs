//! One child process: started, restarted with backoff, drained on request.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use config::Part;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::backoff::Backoff;
use super::memory_groups::out_of_memory_kills;
use super::on_demand::OnDemand;
use super::process::Process;
use super::roster::Roster;
use super::seat::{NotReplaced, Seat, Upgrade, take_seat};
use crate::supervision::Line;

/// What a child is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    Router,
    /// Another one has its place.
    FormerRouter,
    Terminator {
        tenant: String,
    },
    /// Looks at the certificates of Passthrough tenants' backends.
    Prober,
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
    /// One that runs already, when this supervisor begins.
    running: Option<Process>,
    roster: Roster,
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
    pub(super) fn router(program: &Path, config_file: &Path, seat: Seat, roster: &Roster) -> Self {
        let arguments = router_arguments(config_file);
        let (_never, retired) = watch::channel(false);
        Self { seat: Some(seat), ..Self::new(Role::Router, program, arguments, retired, roster) }
    }

    pub(super) fn terminator(
        program: &Path,
        config_file: &Path,
        tenant: &str,
        socket: &Path,
        roster: &Roster,
    ) -> (Self, Retirement) {
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
        (Self::new(role, program, arguments, retired, roster), Retirement(retire))
    }

    pub(super) fn prober(program: &Path, config_file: &Path, roster: &Roster) -> (Self, Retirement) {
        let arguments = vec!["probe".into(), "--config".into(), config_file.into(), "--supervised".into()];
        let (retire, retired) = watch::channel(false);
        (Self::new(Role::Prober, program, arguments, retired, roster), Retirement(retire))
    }

    fn new(
        role: Role,
        program: &Path,
        arguments: Vec<OsString>,
        retired: watch::Receiver<bool>,
        roster: &Roster,
    ) -> Self {
        Self {
            role,
            program: program.into(),
            arguments,
            retired,
            seat: None,
            memory_group: None,
            on_demand: None,
            is_wanted: true,
            has_successor: false,
            running: None,
            roster: roster.clone(),
        }
    }

    /// The same, with its memory limited in this cgroup, if there is one.
    pub(super) fn in_group(mut self, group: Option<PathBuf>) -> Self {
        if let Some(group) = &group {
            self.arguments.extend(["--memory-group".into(), group.into()]);
        }
        self.memory_group = group;
        self
    }

    /// The same, which reads no more of the file than it needs.
    pub(super) fn reading(mut self, part: Option<Part>) -> Self {
        if let Some(Part { identity, beside }) = part {
            self.arguments.extend(["--uid".into(), identity.uid.to_string().into()]);
            self.arguments.extend(["--gid".into(), identity.gid.to_string().into()]);
            self.arguments.extend(beside.into_iter().flat_map(|name| ["--beside".into(), name.into()]));
        }
        self
    }

    /// The same, but only when it is asked for.
    pub(super) fn on_demand(self, on_demand: OnDemand) -> Self {
        Self { on_demand: Some(on_demand), is_wanted: false, ..self }
    }

    /// The same, asked for already.
    pub(super) fn at_once(self) -> Self {
        Self { is_wanted: true, ..self }
    }

    /// The same, of which a process runs already.
    pub(super) fn that_runs(self, process: Process) -> Self {
        Self { running: Some(process), is_wanted: true, ..self }
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
            running: None,
            roster: self.roster.clone(),
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
                    let has_served = self.seat.as_ref().is_some_and(|seat| *seat.served.borrow());
                    if let (Role::Router, false, true, Some(code)) =
                        (&self.role, has_served, first_start, status.code())
                    {
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
        let start = |stdin| Process::start(&self.program, &self.arguments, stdin, &self.roster, self.role.clone());
        let (mut process, taking) = match (self.running.take(), &self.seat) {
            (Some(process), _) => (process, None),
            // The end of its standard input tells it that the supervisor is gone.
            (None, None) => (start(None)?, None),
            (None, Some(seat)) => {
                let (line, theirs) = Line::pair()?;
                let process = start(Some(theirs))?;
                (process, Some(take_seat(seat.clone(), line)))
            }
        };
        info!(process = %self.role, pid = process.pid(), "started");
        let mut taking = pin!(async {
            if let Some(taking) = taking {
                taking.await;
            }
            std::future::pending::<()>().await;
        });
        let started = tokio::time::Instant::now();
        let stops_at = self.role.stops_at();
        let mut stops = stop.clone();
        let mut retiring = false;
        loop {
            tokio::select! {
                status = process.wait() => return status,
                () = &mut taking => {}
                () = wanted_again(&mut self.on_demand, started), if !retiring && !self.has_successor => {
                    self.has_successor = true;
                    process.leaves();
                    if let Some(on_demand) = &self.on_demand {
                        on_demand.succeed(self.successor());
                    }
                }
                mut wanted = next_upgrade(&self.seat) => {
                    // A stop that comes meanwhile ends the attempt, and with it the process that was started for it.
                    let replaced = tokio::select! {
                        replaced = wanted.replace(&self.program, &self.arguments, &mut process, &self.roster) => replaced,
                        () = reached(&mut stops, stops_at) => Err(NotReplaced::Stopped),
                    };
                    wanted.answer(replaced);
                }
                () = reached(stop, stops_at) => break process.tell(Signal::SIGTERM),
                () = is_retired(&mut self.retired), if !retiring => {
                    retiring = true;
                    process.leaves();
                    process.tell(Signal::SIGUSR1);
                }
            }
        }
        tokio::select! {
            status = process.wait() => return status,
            () = &mut taking => {}
            _ = stop.wait_for(|phase| *phase == StopPhase::Now) => process.tell(Signal::SIGTERM),
        }
        match timeout(LAST_WORDS, process.wait()).await {
            Ok(status) => status,
            Err(_) => {
                process.tell(Signal::SIGKILL);
                process.wait().await
            }
        }
    }
}

/// What a router is started with.
pub(super) fn router_arguments(config_file: &Path) -> Vec<OsString> {
    vec!["router".into(), "--config".into(), config_file.into(), "--supervised".into()]
}

impl Role {
    fn stops_at(&self) -> StopPhase {
        match self {
            Self::Router | Self::FormerRouter | Self::Prober => StopPhase::Router,
            Self::Terminator { .. } => StopPhase::Terminators,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Router => write!(f, "router"),
            Self::FormerRouter => write!(f, "former router"),
            Self::Terminator { tenant } => write!(f, "terminator/{tenant}"),
            Self::Prober => write!(f, "prober"),
        }
    }
}

/// Resolves when the stop has come this far, or when nobody is left who could say so.
async fn reached(stop: &mut watch::Receiver<StopPhase>, wanted: StopPhase) {
    let _ = stop.wait_for(|phase| *phase >= wanted).await;
}

async fn next_upgrade(seat: &Option<Seat>) -> Upgrade {
    match seat {
        Some(seat) => seat.next_upgrade().await,
        None => std::future::pending().await,
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

/// What a child gets between its second SIGTERM and SIGKILL, to close its connections and flush its log.
const LAST_WORDS: Duration = Duration::from_secs(1);
