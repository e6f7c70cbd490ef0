//! The supervisor becomes the program that is on disk now, under the same pid: its children stay its children, and what it
//! holds goes through the only descriptor that survives, the standard input. What can fail, fails before.

use std::collections::HashSet;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::connection::channel::{self, Channel, DESCRIPTOR_LIMIT, Message};
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use tokio::net::UnixDatagram;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::child::Role;
use super::process::Process;
use super::roster::{Entry, Roster};
use super::seat::Seat;
use crate::config_file::ConfigFile;
use crate::listening::ListeningSockets;
use crate::supervision::Line;

/// What the successor reads. Fields are only ever added, each with a default.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// Their sockets come in this order.
    listeners: Vec<Listening>,
    /// Whether the admin endpoint's socket comes.
    admin: bool,
    /// The router that serves; the line to it comes.
    router: i32,
    /// All others; their lifelines come, where they have one.
    #[serde(default)]
    children: Vec<Kept>,
    /// The configuration in force.
    config: PathBuf,
    /// What was asked for meanwhile: a reload, an upgrade.
    #[serde(default)]
    pub(super) wishes: [bool; 2],
    /// Where cgroups of terminators are made, as far as that is known.
    #[serde(default)]
    pub(super) memory_groups: Option<PathBuf>,
    /// Whether that comes with which the configuration file is watched.
    #[serde(default)]
    has_watch: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Listening {
    name: String,
    address: SocketAddr,
    sockets: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    pid: i32,
    role: Role,
    has_lifeline: bool,
    is_leaving: bool,
}

/// What the former program held.
pub(super) struct Inheritance {
    pub(super) state: State,
    pub(super) lock: File,
    pub(super) demand_socket: std::os::unix::net::UnixDatagram,
    pub(super) sockets: ListeningSockets,
    pub(super) line: OwnedFd,
    pub(super) lifelines: Vec<OwnedFd>,
    pub(super) watch: Option<OwnedFd>,
}

/// A child of the former program.
pub(super) struct Inherited {
    pub(super) process: Process,
    pub(super) role: Role,
    pub(super) is_leaving: bool,
}

/// Why the supervisor stays what it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSucceeded {
    #[error("the router is starting again")]
    NoRouter,
    #[error("{0} is being replaced")]
    BeingReplaced(String),
    #[error("{}: {source}", program.display())]
    Program { program: PathBuf, source: io::Error },
    #[error("{} does not understand what it would get; the log has its reason", .0.display())]
    Refused(PathBuf),
    #[error("{0}: {1}")]
    Call(&'static str, io::Error),
}

/// Who becomes another program.
#[derive(Debug)]
pub(super) struct Succession<'s> {
    pub(super) program: &'s Path,
    /// As it was given to this one.
    pub(super) config_file: &'s ConfigFile,
    pub(super) runtime_dir: &'s Path,
    /// A copy of it, there.
    pub(super) config_in_force: PathBuf,
    pub(super) seat: &'s Seat,
    pub(super) lock: &'s File,
    pub(super) demand_socket: &'s UnixDatagram,
    pub(super) roster: &'s Roster,
    pub(super) memory_groups: Option<PathBuf>,
}

impl Succession<'_> {
    /// Does not return where it succeeds. `wishes` gives what was asked for and not taken up: a reload, an upgrade.
    pub(super) async fn succeed(self, wishes: impl FnOnce() -> [bool; 2]) -> Result<Infallible, NotSucceeded> {
        let path = self.runtime_dir.join(STATE);
        // Terminators that were replaced a moment ago are told to go by then.
        sleep(A_MOMENT).await;
        let (state, _) = self.state([false; 2])?;
        write(&path, &state).map_err(failed("write the state"))?;
        self.ask_program(&path).await?;
        // From here on a signal waits for the next program, which it would end if it came before that waits for it. Those
        // that have come are taken up by the others in the pause, and found among the wishes.
        let _blocked = Blocked::now()?;
        sleep(A_MOMENT).await;
        for _ in 0..TURNS {
            yield_now().await;
        }
        // From here to the end nothing else runs in this process: what is written stays true.
        let (state, entries) = self.state(wishes())?;
        write(&path, &state).map_err(failed("write the state"))?;
        let stdin = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), FIRST_FREE);
        let stdin = stdin.map_err(|error| NotSucceeded::Call("copy the standard input", error.into()))?;
        let line = self.seat.line.try_lock().map_err(|_| NotSucceeded::NoRouter)?;
        let line = line.as_ref().ok_or(NotSucceeded::NoRouter)?;
        let (ours, theirs) = Channel::pair().map_err(failed("make a channel"))?;
        self.seat.sockets.with(|sockets| {
            let listening = sockets.listeners.iter().flat_map(|bound| &bound.sockets).chain(&sockets.admin);
            let mut all: Vec<BorrowedFd<'_>> = vec![stdin.as_fd(), self.lock.as_fd(), self.demand_socket.as_fd()];
            all.extend(listening.map(AsFd::as_fd));
            all.push(line.as_fd());
            all.extend(entries.iter().filter_map(|entry| entry.lifeline.as_ref()).map(AsFd::as_fd));
            all.extend(self.config_file.watch());
            all.chunks(DESCRIPTOR_LIMIT)
                .try_for_each(|part| channel::send_at_once(&ours, PART, part))
                .map_err(failed("pass descriptors on"))
        })?;
        let error = execute(&theirs, &stdin, self.program, self.config_file.path(), &path);
        Err(NotSucceeded::Program { program: self.program.to_owned(), source: error })
    }

    fn state(&self, wishes: [bool; 2]) -> Result<(State, Vec<Arc<Entry>>), NotSucceeded> {
        let (routers, children): (Vec<_>, Vec<_>) =
            self.roster.all().into_iter().partition(|entry| entry.role == Role::Router && !entry.is_leaving());
        let [router] = &routers[..] else { return Err(NotSucceeded::NoRouter) };
        let mut serving = HashSet::new();
        for entry in children.iter().filter(|entry| !entry.is_leaving()) {
            if !serving.insert(&entry.role) {
                // Which of the two serves, only the task knows that waits for the younger one.
                return Err(NotSucceeded::BeingReplaced(entry.role.to_string()));
            }
        }
        let kept = children.iter().map(|entry| Kept {
            pid: entry.pid,
            role: entry.role.clone(),
            has_lifeline: entry.lifeline.is_some(),
            is_leaving: entry.is_leaving(),
        });
        let state = self.seat.sockets.with(|sockets| State {
            listeners: sockets
                .listeners
                .iter()
                .map(|bound| Listening {
                    name: bound.name.clone(),
                    address: bound.address,
                    sockets: bound.sockets.len(),
                })
                .collect(),
            admin: sockets.admin.is_some(),
            router: router.pid,
            children: kept.collect(),
            config: self.config_in_force.clone(),
            wishes,
            memory_groups: self.memory_groups.clone(),
            has_watch: self.config_file.watch().is_some(),
        });
        Ok((state, children))
    }

    /// Whether the program on disk understands the state.
    async fn ask_program(&self, state: &Path) -> Result<(), NotSucceeded> {
        let failed = |source| NotSucceeded::Program { program: self.program.to_owned(), source };
        let arguments = ["check-state".into(), state.into()];
        let asked = Process::start(self.program, &arguments, None, &Roster::default(), Role::FormerRouter);
        let mut asked = asked.map_err(failed)?;
        match timeout(PATIENCE, asked.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(|status| status.success()) => Ok(()),
            Ok(Err(error)) => Err(failed(error)),
            _ => Err(NotSucceeded::Refused(self.program.to_owned())),
        }
    }
}

/// Parses the state of a former program and says nothing where it is understood.
pub(crate) fn check_state(path: &Path) -> io::Result<()> {
    State::read(path).map(drop)
}

impl State {
    /// Where the configuration in force is.
    pub(super) fn config_in_force(&self) -> &Path {
        &self.config
    }

    fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    fn descriptors(&self) -> usize {
        let sockets: usize = self.listeners.iter().map(|listening| listening.sockets).sum();
        // Besides these: the standard input, the lock, the socket that is asked, the line.
        4 + sockets + usize::from(self.admin) + self.lifelines() + usize::from(self.has_watch)
    }

    fn lifelines(&self) -> usize {
        self.children.iter().filter(|child| child.has_lifeline).count()
    }
}

impl Inheritance {
    /// What the former program, which this process was until now, has left. The standard input is its own again then.
    pub(super) fn take(state: &Path) -> io::Result<Self> {
        let state = State::read(state)?;
        let passed = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), FIRST_FREE)?;
        let mut descriptors = Vec::new();
        while descriptors.len() < state.descriptors() {
            match channel::receive_at_once(&passed)? {
                Some(Message { descriptors: part, .. }) if !part.is_empty() => descriptors.extend(part),
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or(io::ErrorKind::UnexpectedEof);
        rustix::stdio::dup2_stdin(next()?)?;
        let lock = next()?.into();
        let demand_socket = next()?.into();
        let mut sockets = ListeningSockets::default();
        for Listening { name, address, sockets: count } in &state.listeners {
            let own = (0..*count).map(|_| next()).collect::<Result<_, _>>()?;
            sockets.add(name.clone(), *address, own);
        }
        if state.admin {
            sockets.admin = Some(next()?.into());
        }
        let line = next()?;
        let lifelines = (0..state.lifelines()).map(|_| next()).collect::<Result<_, _>>()?;
        let watch = if state.has_watch { Some(next()?) } else { None };
        Ok(Self { state, lock, demand_socket, sockets, line, lifelines, watch })
    }

    /// The router with the line to it, and all others. Needs a tokio runtime with I/O.
    pub(super) fn children(
        line: OwnedFd,
        lifelines: Vec<OwnedFd>,
        state: &State,
        roster: &Roster,
    ) -> io::Result<(Process, Line, Vec<Inherited>)> {
        let router = Process::inherit(state.router, None, roster, Role::Router)?;
        let mut lifelines = lifelines.into_iter();
        let children = state.children.iter().map(|kept| {
            let lifeline = if kept.has_lifeline { lifelines.next() } else { None };
            let process = Process::inherit(kept.pid, lifeline, roster, kept.role.clone())?;
            Ok(Inherited { process, role: kept.role.clone(), is_leaving: kept.is_leaving })
        });
        let children = children.collect::<io::Result<_>>()?;
        Ok((router, Line::over(line)?, children))
    }
}

/// Signals wait while it lives.
struct Blocked;

impl Blocked {
    fn now() -> Result<Self, NotSucceeded> {
        waited_for().thread_block().map_err(|error| NotSucceeded::Call("block signals", error.into()))?;
        Ok(Self)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Fails for no set of signals that could be blocked.
        let _ = waited_for().thread_unblock();
    }
}

/// Signals that a supervisor waits for; they stay pending from before it becomes another program until that waits, too.
pub(super) fn waited_for() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2].into_iter().collect()
}

/// Gives the error; where there is none, nobody is left to whom it could be given.
fn execute(passed: &OwnedFd, stdin: &OwnedFd, program: &Path, config_file: &Path, state: &Path) -> io::Error {
    let words = [program.as_os_str(), "run".as_ref(), "--config".as_ref(), config_file.as_os_str()];
    let words = words.into_iter().chain(["--resume".as_ref(), state.as_os_str()]);
    let words: Vec<_> = match words.map(|word| CString::new(word.as_bytes())).collect() {
        Ok(words) => words,
        Err(error) => return error.into(),
    };
    if let Err(error) = rustix::stdio::dup2_stdin(passed) {
        return error.into();
    }
    let failed = match nix::unistd::execv(&words[0], &words) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    };
    // This program goes on, with its own standard input.
    let _ = rustix::stdio::dup2_stdin(stdin);
    failed
}

fn write(path: &Path, state: &State) -> io::Result<()> {
    let file = File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    Ok(serde_json::to_writer(file, state)?)
}

fn failed(call: &'static str) -> impl Fn(io::Error) -> NotSucceeded {
    move |error| NotSucceeded::Call(call, error)
}

/// In the runtimeDir.
const STATE: &str = "supervisor.json";
/// What each message with descriptors says.
const PART: &[u8] = b"descriptors";
/// Above standard error.
const FIRST_FREE: i32 = 3;
/// From a signal to the wish that it means two tasks have their turn, one after the other; a busy machine's pause may be over
/// before they do.
const TURNS: u32 = 4;
/// Enough for every task that is ready to have its turn.
const A_MOMENT: Duration = Duration::from_millis(5);
/// It only parses a file.
const PATIENCE: Duration = Duration::from_secs(10);
