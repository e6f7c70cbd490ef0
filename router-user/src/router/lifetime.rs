//! A running router's main task: takes signals, orders of the supervisor and changes of the configuration file, until the
//! drain is over.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::connection::Drain;
use ::connection::channel::Channel;
use ::connection::drain::tell_progress;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::hand_over::take_over;
use super::reload::{Prepared, ReloadError, ReloadOutcome, Reloader};
use super::worker::Shared;
use crate::config_file::ConfigFile;
use crate::listening::ListeningSockets;
use crate::supervision::{Answer, Line, Order};

/// From their construction on, signals wait here instead of ending the process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Who says when to reload.
pub(super) enum Authority {
    /// The supervisor, which has the configuration to be read at this path. It starts and ends terminators in between.
    Supervisor { line: Line, next: PathBuf },
    /// The file itself, and SIGHUP.
    File(ConfigFile),
    /// Nobody: the process was started as if it had a supervisor.
    Nobody,
}

impl Authority {
    /// The router's, that has a supervisor or is to watch its `file` itself. Needs a tokio runtime with I/O.
    pub(super) fn of(file: impl FnOnce() -> ConfigFile, supervised: bool, runtime_dir: &Path) -> Self {
        if !supervised {
            return Self::File(file());
        }
        match Line::of_standard_input() {
            Ok(line) => Self::Supervisor { line, next: crate::supervisor::next_config(runtime_dir) },
            Err(error) => {
                warn!(%error, "standard input is no supervisor's: its end will not be noticed, and nobody reloads");
                Self::Nobody
            }
        }
    }

    /// Cancel-safe.
    async fn next(&mut self) -> Wish {
        match self {
            Self::Nobody => std::future::pending().await,
            Self::File(file) => {
                file.changed().await;
                Wish::Reload
            }
            Self::Supervisor { line, .. } => {
                line.next_order().await.map_or(Wish::Stop, |(order, descriptors)| Wish::Obey(order, descriptors))
            }
        }
    }
}

/// What a running router is to do.
enum Wish {
    Stop,
    Reload,
    Obey(Order, Vec<OwnedFd>),
}

/// Waits for SIGTERM, SIGINT or the supervisor's end, starts the drain, and returns when it is over or forced. `doors` are what
/// is to be accepted from when this process takes over.
pub(super) async fn run(
    shared: &Arc<Shared>,
    reloader: &mut Reloader,
    mut doors: Option<Vec<Vec<TcpListener>>>,
    drain: Drain,
    mut authority: Authority,
    mut signals: Signals,
) {
    let workers = u32::try_from(reloader.workers().len()).unwrap_or(u32::MAX);
    let (mut prepared, mut sockets) = (None, ListeningSockets::default());
    loop {
        // Every branch may be dropped: signals stay pending, and the authority says so of its waiting.
        let wish = tokio::select! {
            _ = signals.terminate.recv() => Wish::Stop,
            _ = signals.interrupt.recv() => Wish::Stop,
            _ = signals.hangup.recv() => Wish::Reload,
            wish = authority.next() => wish,
        };
        match (wish, &mut authority) {
            (Wish::Stop, _) => break,
            (Wish::Reload, Authority::File(file)) => {
                file.is_read();
                reload(shared, reloader, file.path()).await;
            }
            (Wish::Obey(Order::Listen { name, address }, descriptors), _) => sockets.add(name, address, descriptors),
            (Wish::Obey(Order::Keep { name }, _), _) => shared.hand_over.keep(name),
            (Wish::Obey(Order::TakeOver, channel), Authority::Supervisor { line, .. }) => {
                let answer = taking_over(channel, shared, reloader);
                if let (Answer::Done, Some(sockets)) = (&answer, doors.take()) {
                    shared.steering.take_over();
                    reloader.open(sockets).await;
                    shared.reloads.count(ReloadOutcome::Ok);
                }
                line.answer(&answer).await;
            }
            (Wish::Obey(Order::HandOver, channel), Authority::Supervisor { line, .. }) => match channel_of(channel) {
                Ok(channel) => {
                    info!(connections = held(shared), "handing over to the next router");
                    shared.hand_over.begin(channel);
                    line.answer(&Answer::Done).await;
                    break;
                }
                Err(refused) => line.answer(&refused).await,
            },
            (Wish::Obey(order, _), Authority::Supervisor { line, next }) => {
                let answer = obey(order, shared, reloader, next, &mut prepared, &mut sockets).await;
                line.answer(&answer).await;
            }
            _ => info!("SIGHUP: the supervisor reloads, not the router"),
        }
    }
    shared.steering.end();
    if !shared.hand_over.is_begun() {
        drain.start();
        info!(connections = held(shared), "draining");
    }
    if let Some(carrier) = shared.cut_through.carrier() {
        carrier.leave();
    }
    let over = async {
        let _ended = shared.ended.acquire_many(workers).await;
        if let Some(carrier) = shared.cut_through.carrier() {
            // What the next process has to know of its flows is noted then.
            let _ = timeout(NOTES_PATIENCE, carrier.has_left()).await;
        }
        shared.hand_over.answered().await;
    };
    let is_draining = !shared.hand_over.is_begun();
    // Whoever is dropped waits or tells.
    tokio::select! {
        () = over => {}
        never = tell_progress(|| held(shared)), if is_draining => match never {},
        _ = signals.terminate.recv() => drain.force(),
        _ = signals.interrupt.recv() => drain.force(),
    }
}

fn taking_over(channel: Vec<OwnedFd>, shared: &Shared, reloader: &Reloader) -> Answer {
    match channel_of(channel) {
        Ok(channel) => {
            // Ends when the former router has.
            tokio::spawn(take_over(channel, shared.policy.current(), reloader.workers().to_vec()));
            Answer::Done
        }
        Err(refused) => refused,
    }
}

fn channel_of(mut descriptors: Vec<OwnedFd>) -> Result<Channel, Answer> {
    let socket = descriptors.pop().ok_or_else(|| Answer::Refused("no channel came with the order".to_owned()))?;
    Channel::over(socket).map_err(|error| Answer::Refused(format!("the channel between two routers: {error}")))
}

async fn obey(
    order: Order,
    shared: &Shared,
    reloader: &mut Reloader,
    next: &Path,
    prepared: &mut Option<Prepared>,
    sockets: &mut ListeningSockets,
) -> Answer {
    match order {
        Order::Prepare => match reloader.prepare(next) {
            Ok(ready) => (*prepared, *sockets) = (Some(ready), ListeningSockets::default()),
            Err(error) => {
                shared.reloads.count(error.outcome());
                return Answer::Refused(error.to_string());
            }
        },
        Order::Commit => match (prepared.take(), std::mem::take(sockets)) {
            (Some(ready), sockets) => reloader.commit(ready, sockets.listeners).await,
            (None, _) => return Answer::Refused("nothing is prepared".to_owned()),
        },
        Order::NotUpgraded(why) => shared.hand_over.refuse(why),
        Order::NotReloaded(why) => shared.reloads.explain(why),
        Order::CountInvalid => shared.reloads.count(ReloadOutcome::Invalid),
        Order::CountRefused => shared.reloads.count(ReloadOutcome::Refused),
        Order::Listen { .. }
        | Order::Admin
        | Order::Start
        | Order::StartAside
        | Order::TakeOver
        | Order::Keep { .. }
        | Order::HandOver => {
            return Answer::Refused("not while the router runs".to_owned());
        }
    }
    Answer::Done
}

async fn reload(shared: &Shared, reloader: &mut Reloader, file: &Path) {
    let ready = async {
        let prepared = reloader.prepare(file)?;
        let sockets = reloader.bind(&prepared).await?;
        Ok::<_, ReloadError>((prepared, sockets))
    };
    match ready.await {
        Ok((prepared, sockets)) => reloader.commit(prepared, sockets).await,
        Err(error) => {
            shared.reloads.count(error.outcome());
            shared.reloads.explain(error.to_string());
            error!("not reloaded, the former configuration stays in force: {error}");
        }
    }
}

/// Connections that the router holds now.
fn held(shared: &Shared) -> u64 {
    shared.policy.current().permits.iter().map(|permits| permits.held() as u64).sum()
}

/// The kernel's grace periods, which its collector waits for, take this long only on a host that has more to do than it can.
const NOTES_PATIENCE: Duration = Duration::from_secs(1);
