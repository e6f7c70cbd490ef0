//! `sni-router run`: binds the listening sockets, starts the router and the terminators, restarts what crashes, passes on a
//! drain, reloads, upgrades. Accepts no connection, parses no network input and opens no key file.

mod backoff;
mod child;
mod memory_groups;
mod on_demand;
mod process;
mod reload;
mod runtime_dir;
mod seat;
mod terminator;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, Mode, Startup};
use nix::unistd::Uid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use self::child::{Child, Ended, Retirement, Role, StopPhase, see_off};
use self::memory_groups::MemoryGroups;
use self::on_demand::OnDemand;
use self::reload::{News, Reloader, Wishes};
pub(crate) use self::runtime_dir::next_config;
use self::runtime_dir::{RuntimeDir, RuntimeDirError};
use self::seat::Seat;
pub(crate) use self::terminator::program as terminator_program;
use crate::config_file::{ConfigFile, fingerprint};
use crate::demand::{Command, Demands, bind_demand};
use crate::failure::Failure;
use crate::identity::{Identity, router_identity};
use crate::listening::ListeningSockets;

/// Runs until a signal ends it, or until the router cannot start.
pub fn run(config_file: &Path) -> Result<(), Failure> {
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
    let sockets = ListeningSockets::bind(&config).map_err(|error| Failure::System(error.to_string()))?;
    let seat = Seat::new(sockets);
    let (news, heard) = unbounded_channel();
    let demands = Demands::default();
    let groups = MemoryGroups::new(&config.runtime_dir);
    let terminators = start(&config, &runtime_dir.config(), &seat, &news, &demands, &groups)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::System(format!("start the runtime: {error}")))?;
    runtime.block_on(async {
        let socket = bind_demand(&config.runtime_dir, identity)
            .map_err(|error| Failure::System(format!("make the socket demand.sock in the runtimeDir: {error}")))?;
        let (ask, asked) = unbounded_channel();
        tokio::spawn(demands.clone().hear(socket, ask));
        let file = ConfigFile::new(config_file, seen);
        let _ = news.send(News::HelloTimeout(longest_hello(&config)));
        supervise(Reloader { file, config, text, runtime_dir, seat, terminators, news, demands, groups }, heard, asked)
            .await
    })
}

fn prepare(config: &Config, text: &str, router: Identity) -> Result<RuntimeDir, RuntimeDirError> {
    let runtime_dir = RuntimeDir::prepare(config, router)?;
    runtime_dir.propose_config(text)?;
    runtime_dir.adopt_config()?;
    Ok(runtime_dir)
}

/// The router first, then one terminator per Terminate tenant.
fn start(
    config: &Config,
    config_file: &Path,
    seat: &Seat,
    news: &UnboundedSender<News>,
    demands: &Demands,
    groups: &MemoryGroups,
) -> Result<HashMap<String, Retirement>, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::System(format!("find this program's own file: {error}")))?;
    let _ = news.send(News::Start(Child::router(&program, config_file, seat.clone())));
    let program = terminator::program_for(config)?;
    let mut terminators = HashMap::new();
    for tenant in &config.tenants {
        if let Mode::Terminate(terminate) = &tenant.mode {
            let socket = config.handoff_socket(&tenant.name);
            let (child, retirement) = Child::terminator(&program, config_file, &tenant.name, &socket);
            let child = child.in_group(terminate.sandbox.memory_max.and_then(|_| groups.of(&tenant.name)));
            let child = match terminate.startup {
                Startup::Always => child,
                Startup::OnDemand { .. } => {
                    child.on_demand(OnDemand::new(demands.follow(&tenant.name), socket, news.clone()))
                }
            };
            let _ = news.send(News::Start(child));
            terminators.insert(tenant.name.clone(), retirement);
        }
    }
    Ok(terminators)
}

/// Terminators drain after the router has handed over what it had accepted, which its hello deadline bounds.
fn longest_hello(config: &Config) -> Duration {
    config.listeners.iter().map(|listener| listener.client_hello.timeout).max().unwrap_or_default()
}

async fn supervise(
    reloader: Reloader,
    mut news: UnboundedReceiver<News>,
    commands: UnboundedReceiver<Command>,
) -> Result<(), Failure> {
    let mut signals = Signals::new(commands).map_err(|error| Failure::System(format!("watch for signals: {error}")))?;
    let (stop, stopped) = watch::channel(StopPhase::Running);
    let mut running = JoinSet::new();
    let mut patience = Duration::ZERO;
    let mut failure = None;
    let wishes = Arc::new(Wishes::default());
    let sockets = reloader.seat.sockets.clone();
    // Ends with this task; what it has begun is finished by the children that it has started.
    let reloader = tokio::spawn(reloader.run(Arc::clone(&wishes)));
    let mut terminators_drain_at = None;
    loop {
        // Every branch may be dropped: signals stay pending, JoinSet and watch keep their state.
        tokio::select! {
            Some(news) = news.recv() => match news {
                News::Start(child) => {
                    running.spawn(child.keep_running(stopped.clone()));
                }
                News::SeeOff(former) => drop(running.spawn(see_off(former, stopped.clone()))),
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

/// What the supervisor is told to do, by signals and by the router, which passes on what its admin socket is asked for.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
    commands: UnboundedReceiver<Command>,
}

impl Signals {
    fn new(commands: UnboundedReceiver<Command>) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
            commands,
        })
    }

    async fn next(&mut self) -> Command {
        tokio::select! {
            _ = self.terminate.recv() => Command::Drain,
            _ = self.interrupt.recv() => Command::Drain,
            _ = self.hangup.recv() => Command::Reload,
            _ = self.upgrade.recv() => Command::Upgrade,
            Some(command) = self.commands.recv() => command,
        }
    }
}

/// Added to the hello deadline: the last hand-off is sent within it and needs a moment to arrive.
const HANDOFF_GRACE: Duration = Duration::from_millis(500);
