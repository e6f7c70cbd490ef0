//! `sni-router run`: starts the router and the terminators, restarts what crashes, passes on a drain.
//! Parses no network input and opens no key file.

mod backoff;
mod child;
mod runtime_dir;

use std::path::Path;
use std::time::Duration;

use config::{Config, Mode};
use nix::unistd::Uid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use self::child::{Child, Ended, Role, StopPhase};
use self::runtime_dir::RuntimeDir;
use crate::commands::load;
use crate::failure::Failure;
use crate::identity::router_identity;

/// Runs until a signal ends it, or until the router cannot start.
pub fn run(config_file: &Path) -> Result<(), Failure> {
    let config = load(config_file)?;
    let identity = router_identity(&config).map_err(|error| Failure::Input(error.to_string()))?;
    let _runtime_dir = RuntimeDir::prepare(&config, identity).map_err(|error| Failure::System(error.to_string()))?;
    if !Uid::effective().is_root() {
        info!(
            "not started as root: router and terminators share this user's uid, so a tenant's keys are protected by its process alone"
        );
    }
    let children = children(&config, config_file)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::System(format!("start the runtime: {error}")))?;
    runtime.block_on(supervise(&config, children))
}

/// The router first, then one terminator per Terminate tenant.
fn children(config: &Config, config_file: &Path) -> Result<Vec<Child>, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::System(format!("find this program's own file: {error}")))?;
    let terminator = program.with_file_name(TERMINATOR);
    let mut children = vec![Child::router(&program, config_file)];
    for tenant in &config.tenants {
        if let Mode::Terminate(_) = tenant.mode {
            let socket = config.handoff_socket(&tenant.name);
            children.push(Child::terminator(&terminator, config_file, &tenant.name, &socket));
        }
    }
    if children.len() > 1 && !terminator.exists() {
        return Err(Failure::System(format!(
            "{} is missing: it belongs beside sni-router, Terminate tenants need it",
            terminator.display()
        )));
    }
    Ok(children)
}

async fn supervise(config: &Config, children: Vec<Child>) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::System(format!("watch for signals: {error}")))?;
    let (stop, stopped) = watch::channel(StopPhase::Running);
    let mut running = JoinSet::new();
    for child in children {
        running.spawn(child.keep_running(stopped.clone()));
    }
    let mut failure = None;
    // Terminators drain after the router has handed over what it had accepted, which its hello deadline bounds.
    let patience = config.listeners.iter().map(|listener| listener.client_hello.timeout).max().unwrap_or_default();
    let mut terminators_drain_at = None;
    loop {
        // Every branch may be dropped: signals stay pending, JoinSet and watch keep their state.
        tokio::select! {
            ended = running.join_next() => match ended {
                None => break,
                Some(Ok(ended)) => {
                    if let Ended::Failed { exit_code } = ended.1 {
                        failure = Some(Failure::Child(exit_code));
                    }
                    if ended.0 == Role::Router {
                        advance(&stop, StopPhase::Terminators);
                    }
                }
                Some(Err(panicked)) => failure = Some(Failure::System(format!("supervise a child: {panicked}"))),
            },
            wish = signals.next() => match wish {
                Wish::Reload => info!("SIGHUP: reloading is not available yet; restart to change the configuration"),
                Wish::Stop => if *stop.borrow() == StopPhase::Running {
                    info!("draining; a second signal stops at once");
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

enum Wish {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

/// The terminator's binary, in the same folder as this one.
const TERMINATOR: &str = "sni-terminator";

/// Added to the hello deadline: the last hand-off is sent within it and needs a moment to arrive.
const HANDOFF_GRACE: Duration = Duration::from_millis(500);
