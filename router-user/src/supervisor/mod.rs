//! `sni-router run`: binds the listening sockets, starts the router and the terminators, restarts what crashes, passes on a
//! drain, reloads, upgrades. Accepts no connection, parses no network input and opens no key file.

mod backoff;
mod change_over;
mod child;
mod departure;
mod memory_groups;
mod on_demand;
mod prober;
mod process;
mod reload;
mod roster;
mod runtime_dir;
mod seat;
mod stage;
mod succession;
mod successor;
mod systemd;
mod terminator;
mod upgrade;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::connection::files::Fingerprint;
use config::Config;
use nix::sys::signal::{Signal, raise};
use nix::unistd::Uid;
use tokio::net::UnixDatagram;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use self::child::{Ended, Role, StopPhase};
use self::departure::{see_off, see_off_terminator};
use self::memory_groups::MemoryGroups;
use self::process::Process;
use self::reload::{News, Reloader, Wishes};
use self::roster::Roster;
pub(crate) use self::runtime_dir::next_config;
use self::runtime_dir::{RuntimeDir, RuntimeDirError};
use self::seat::Seat;
use self::stage::Stage;
use self::succession::{Inheritance, Inherited, waited_for};
use self::systemd::ServiceManager;
pub(crate) use self::terminator::program as terminator_program;
use crate::config_file::{ConfigFile, fingerprint};
use crate::demand::{Command, Demands, bind_demand};
use crate::failure::Failure;
use crate::identity::{Identity, router_identity};
use crate::listening::ListeningSockets;
use crate::passed::PassedSockets;

/// Runs until a signal ends it, or until the router cannot start.
pub fn run(config_file: &Path) -> Result<(), Failure> {
    // Before anything else has a descriptor.
    let mut passed = PassedSockets::of_environment();
    let seen = fingerprint(config_file);
    let text = Config::read_file(config_file).map_err(Failure::Config)?;
    let config = Config::of_file(config_file, &text).map_err(Failure::Config)?;
    let identity = router_identity(&config).map_err(|error| Failure::Input(error.to_string()))?;
    let runtime_dir = prepare(&config, &text, identity).map_err(|error| Failure::System(error.to_string()))?;
    if !Uid::effective().is_root() {
        info!(
            "not started as root: router and terminators share this user's uid, so a tenant's keys are protected by its process alone"
        );
    }
    let sockets = ListeningSockets::bind_beside(&mut passed, &config);
    let sockets = sockets.map_err(|error| Failure::System(error.to_string()))?;
    let manager = ServiceManager::of_environment();
    passed.close().iter().for_each(|name| manager.forget(name));
    manager.keep(&sockets);
    let file = (config_file, seen, text);
    let groups = MemoryGroups::new(&config.runtime_dir);
    let seat = Seat::new(sockets, &config.runtime_dir);
    runtime()?.block_on(begin(file, config, identity, runtime_dir, seat, groups, Roster::default(), Present::default()))
}

/// The same, where this process was another version of this program until now and its children run already.
pub fn resume(config_file: &Path, state: &Path) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::System(format!("take over from the former program: {error}"));
    let inheritance = Inheritance::take(state).map_err(|error| failed(&error))?;
    let Inheritance { state, lock, demand_socket, sockets, line, lifelines, watch } = inheritance;
    // Not the file's, which may be wrong by now.
    let in_force = state.config_in_force();
    let text = Config::read_file(in_force).map_err(Failure::Config)?;
    let config = Config::of_file(config_file, &text).map_err(Failure::Config)?;
    let identity = router_identity(&config).map_err(|error| Failure::Input(error.to_string()))?;
    let runtime_dir = RuntimeDir::inherit(&config, identity, lock);
    let groups = MemoryGroups::inherit(&config.runtime_dir, state.memory_groups.clone());
    // A file that is another one by now is read again at once; the fingerprint first, so that a change in between is noticed.
    let seen = fingerprint(config_file);
    let is_in_force = std::fs::read_to_string(config_file).is_ok_and(|now| now == text);
    let seen = if is_in_force { seen } else { fingerprint(in_force) };
    let file = (config_file, seen, text);
    let (seat, roster) = (Seat::new(sockets, &config.runtime_dir), Roster::default());
    runtime()?.block_on(async {
        let children = Inheritance::children(line, lifelines, &state, &roster).map_err(|error| failed(&error))?;
        let (router, line, others) = children;
        *seat.line.lock().await = Some(line);
        seat.served.send_replace(true);
        let present = Present {
            router: Some(router),
            others,
            wishes: state.wishes,
            demand_socket: Some(UnixDatagram::from_std(demand_socket).map_err(|error| failed(&error))?),
            watch,
        };
        info!(children = present.others.len(), "this supervisor goes on as another version of its program");
        begin(file, config, identity, runtime_dir, seat, groups, roster, present).await
    })
}

/// Says nothing where this program understands what a running supervisor would leave it.
pub fn check_state(state: &Path) -> Result<(), Failure> {
    succession::check_state(state)
        .map_err(|error| Failure::Input(format!("the state of a supervisor in {}: {error}", state.display())))
}

/// What is there already.
#[derive(Default)]
struct Present {
    router: Option<Process>,
    others: Vec<Inherited>,
    /// What was asked for before: a reload, an upgrade.
    wishes: [bool; 2],
    demand_socket: Option<UnixDatagram>,
    /// What the configuration file is watched with.
    watch: Option<OwnedFd>,
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::System(format!("start the runtime: {error}")))
}

#[expect(clippy::too_many_arguments, reason = "all that a supervisor consists of, from either way to begin")]
async fn begin(
    (config_file, seen, text): (&Path, Fingerprint, String),
    config: Config,
    identity: Identity,
    runtime_dir: RuntimeDir,
    seat: Seat,
    groups: MemoryGroups,
    roster: Roster,
    present: Present,
) -> Result<(), Failure> {
    let (news, heard) = unbounded_channel();
    let demands = Demands::default();
    let program =
        std::env::current_exe().map_err(|error| Failure::System(format!("find this program's own file: {error}")))?;
    let stage = Stage {
        program: &program,
        config_file: &runtime_dir.config(),
        seat: &seat,
        news: &news,
        demands: &demands,
        groups: &groups,
        roster: &roster,
    };
    let Present { router, others, wishes, demand_socket, watch } = present;
    let (terminators, prober) = stage.start(&config, router, others)?;
    let socket = match demand_socket {
        Some(socket) => socket,
        None => bind_demand(&config.runtime_dir, identity)
            .map_err(|error| Failure::System(format!("make the socket demand.sock in the runtimeDir: {error}")))?,
    };
    let demand_socket = Arc::new(socket);
    tokio::spawn(demands.clone().hear(Arc::clone(&demand_socket), tell_ourselves));
    let manager = ServiceManager::of_environment();
    let [reload, upgrade] = wishes;
    let wishes = Arc::new(Wishes::default());
    if reload {
        wishes.reload.notify_one();
    }
    if upgrade {
        wishes.upgrade.notify_one();
    }
    let file = ConfigFile::new(config_file, seen, watch);
    let _ = news.send(News::HelloTimeout(longest_hello(&config)));
    let reloader = Reloader {
        file,
        config,
        text,
        runtime_dir,
        seat,
        terminators,
        prober,
        news,
        demands,
        groups,
        roster,
        manager,
        demand_socket,
        program,
        router_is_behind: false,
    };
    supervise(reloader, heard, wishes).await
}

fn prepare(config: &Config, text: &str, router: Identity) -> Result<RuntimeDir, RuntimeDirError> {
    let runtime_dir = RuntimeDir::prepare(config, router)?;
    runtime_dir.propose_config(text)?;
    runtime_dir.adopt_config()?;
    Ok(runtime_dir)
}

/// Terminators drain after the router has handed over what it had accepted, which its hello deadline bounds.
fn longest_hello(config: &Config) -> Duration {
    config.listeners.iter().map(|listener| listener.client_hello.timeout).max().unwrap_or_default()
}

async fn supervise(reloader: Reloader, mut news: UnboundedReceiver<News>, wishes: Arc<Wishes>) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::System(format!("watch for signals: {error}")))?;
    // Those that came while this process became another program.
    let _ = waited_for().thread_unblock();
    let (stop, stopped) = watch::channel(StopPhase::Running);
    let mut running = JoinSet::new();
    let mut patience = Duration::ZERO;
    let mut failure = None;
    let sockets = reloader.seat.sockets.clone();
    let (manager, status) = (reloader.manager.clone(), reloader.status());
    let mut served = reloader.seat.served.subscribe();
    let mut is_ready = false;
    // Ends with this task; what it has begun is finished by the children that it has started.
    let reloader = tokio::spawn(reloader.run(Arc::clone(&wishes)));
    let mut terminators_drain_at = None;
    loop {
        // Every branch may be dropped: signals stay pending, JoinSet and watch keep their state.
        tokio::select! {
            Ok(_) = served.wait_for(|served| *served), if !is_ready => {
                is_ready = true;
                manager.ready(&status);
            }
            Some(news) = news.recv() => match news {
                News::Start(child) => {
                    running.spawn(child.keep_running(stopped.clone()));
                }
                News::SeeOff(former) => drop(running.spawn(see_off(former, stopped.clone()))),
                News::SeeOffTerminator(role, former) => {
                    running.spawn(see_off_terminator(role, former, stopped.clone()));
                }
                News::HelloTimeout(longest) => patience = longest,
            },
            Some(ended) = running.join_next() => match ended {
                Ok(ended) => {
                    if let Ended::Failed { exit_code } = ended.1 {
                        failure = Some(Failure::Child(exit_code));
                    }
                    if ended.0 == Role::Router {
                        advance(&stop, StopPhase::Terminators);
                    }
                    if running.is_empty() {
                        break;
                    }
                }
                Err(panicked) => failure = Some(Failure::System(format!("supervise a child: {panicked}"))),
            },
            wish = signals.next() => match wish {
                Command::Reload => wishes.reload.notify_one(),
                Command::Upgrade => wishes.upgrade.notify_one(),
                Command::Drain => if *stop.borrow() == StopPhase::Running {
                    info!("draining; a second signal stops at once");
                    manager.stopping("draining");
                    reloader.abort();
                    sockets.close();
                    advance(&stop, StopPhase::Router);
                    terminators_drain_at = Some(tokio::time::Instant::now() + patience + HANDOFF_GRACE);
                } else {
                    info!("stopping now");
                    advance(&stop, StopPhase::Now);
                },
            },
            () = sleep_until(terminators_drain_at) => {
                terminators_drain_at = None;
                advance(&stop, StopPhase::Terminators);
            }
        }
    }
    info!("stopped");
    failure.map_or(Ok(()), Err)
}

fn advance(stop: &watch::Sender<StopPhase>, phase: StopPhase) {
    stop.send_if_modified(|current| {
        let forward = phase > *current;
        if forward {
            *current = phase;
        }
        forward
    });
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What the router's admin socket was asked for takes the way of the signals, which are not lost while this process becomes
/// another version of its program.
fn tell_ourselves(command: Command) {
    let signal = match command {
        Command::Reload => Signal::SIGHUP,
        Command::Drain => Signal::SIGTERM,
        Command::Upgrade => Signal::SIGUSR2,
    };
    // To this thread, which blocks it when it must wait. Fails for no signal that exists.
    let _ = raise(signal);
}

/// What the supervisor is told to do.
struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    upgrade: unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Command {
        tokio::select! {
            _ = self.terminate.recv() => Command::Drain,
            _ = self.interrupt.recv() => Command::Drain,
            _ = self.hangup.recv() => Command::Reload,
            _ = self.upgrade.recv() => Command::Upgrade,
        }
    }
}

/// Added to the hello deadline: the last hand-off is sent within it and needs a moment to arrive.
const HANDOFF_GRACE: Duration = Duration::from_millis(500);
