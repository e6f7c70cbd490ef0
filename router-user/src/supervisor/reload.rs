//! Puts a changed configuration in force: the router gets ready first, then the terminators that it needs start, then the
//! router changes over, and only then terminators that nobody needs any more retire. What fails changes nothing.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use config::{Config, LoadError, Parts, refused_fields};
use tokio::net::UnixDatagram;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use super::child::{Child, Retirement, Role};
use super::memory_groups::MemoryGroups;
use super::process::Process;
use super::roster::Roster;
use super::runtime_dir::{RuntimeDir, RuntimeDirError};
use super::seat::{NotReplaced, Seat};
use super::successor::{Coming, TERMINATOR_PATIENCE};
use super::systemd::ServiceManager;
use super::terminator;
use crate::config_file::ConfigFile;
use crate::demand::Demands;
use crate::failure::Failure;
use crate::identity::{IdentityError, router_identity};
use crate::listening::BindError;
use crate::supervision::{Answer, Order};

/// What the supervisor's main task has to know of a reload.
#[derive(Debug)]
pub(super) enum News {
    /// One more child.
    Start(Child),
    /// A router that another one has replaced.
    SeeOff(Process),
    /// A terminator that was replaced before this supervisor began.
    SeeOffTerminator(Role, Process),
    /// The longest time that a connection may take until it is handed over.
    HelloTimeout(Duration),
}

/// What the signals and the admin socket can ask for.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) reload: Notify,
    pub(super) upgrade: Notify,
}

impl Wishes {
    /// Those that nobody has taken up yet: a reload, an upgrade.
    pub(super) fn take(&self) -> [bool; 2] {
        [&self.reload, &self.upgrade].map(|wish| pin!(wish.notified()).enable())
    }
}

/// Who reloads and upgrades.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) file: ConfigFile,
    /// The configuration in force.
    pub(super) config: Config,
    /// The text that says it.
    pub(super) text: String,
    pub(super) runtime_dir: RuntimeDir,
    pub(super) seat: Seat,
    /// Of the terminators in service, by their tenants.
    pub(super) terminators: HashMap<String, Retirement>,
    /// Of the prober, where there is one.
    pub(super) prober: Option<Retirement>,
    pub(super) news: UnboundedSender<News>,
    pub(super) demands: Demands,
    pub(super) groups: MemoryGroups,
    pub(super) roster: Roster,
    pub(super) manager: ServiceManager,
    pub(super) demand_socket: Arc<UnixDatagram>,
    /// This program's own file, as it was when the process began.
    pub(super) program: PathBuf,
    /// Whether the router serves by another configuration than the one in force, because its successor died at the last
    /// moment.
    pub(super) router_is_behind: bool,
}

/// Why the former configuration stays in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReloaded {
    #[error("{0}")]
    Unreadable(#[from] LoadError),
    #[error("{0}")]
    Invalid(LoadError),
    #[error("{0}")]
    Refused(LoadError),
    #[error("{0}")]
    User(#[from] IdentityError),
    #[error("another router process for {}: {reason}", fields.join(", "))]
    NotReplaced { fields: Vec<&'static str>, reason: NotReplaced },
    #[error("{0}")]
    ByRouter(String),
    #[error("{0}")]
    RuntimeDir(#[from] RuntimeDirError),
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("{0}")]
    Terminator(Failure),
    #[error("the router does not answer: {0}")]
    Router(#[from] io::Error),
}

impl Reloader {
    /// Reloads at each change of the file and whenever that is wished for, and upgrades; for ever.
    pub(super) async fn run(mut self, wishes: Arc<Wishes>) -> Infallible {
        loop {
            // All may be dropped: they say so.
            tokio::select! {
                () = self.file.changed() => info!(file = %self.file.path().display(), "the configuration file has changed"),
                () = wishes.reload.notified() => info!("reading the configuration file again, as asked for"),
                () = wishes.upgrade.notified() => {
                    self.manager.reloading("upgrading");
                    self.upgrade(&wishes).await;
                    self.manager.ready(&self.status());
                    continue;
                }
            }
            self.manager.reloading("reading the configuration file");
            let was_behind = self.router_is_behind;
            if let Err(error) = self.reload().await {
                error!("not reloaded, the former configuration stays in force: {error}");
                self.count(&error).await;
                self.explain(&error).await;
                if self.router_is_behind && !was_behind {
                    // Everybody else has moved on.
                    wishes.reload.notify_one();
                }
            }
            self.manager.ready(&self.status());
        }
    }

    async fn reload(&mut self) -> Result<(), NotReloaded> {
        self.file.is_read();
        let text = Config::read_file(self.file.path())?;
        self.runtime_dir.propose_config(&text)?;
        self.give(&Order::Prepare).await?;
        // Both parse at the same time, and both find the same.
        let config = self.config.of_next_version(&self.text, self.file.path(), &text);
        let prepared = self.answer().await;
        let config = config.map_err(NotReloaded::Invalid)?;
        prepared?;
        let fixed = self.config.fixed_fields_that_differ(&config);
        if !fixed.is_empty() {
            let why = "cannot be changed by a reload: restart sni-router";
            return Err(NotReloaded::Refused(refused_fields(self.file.path(), &text, &fixed, why)));
        }
        let identity = router_identity(&config)?;
        let program = terminator::program_for(&config).map_err(NotReloaded::Terminator)?;
        let mut fields = self.config.process_fields_that_differ(&config);
        if self.router_is_behind {
            fields.push("the last reload");
        }
        let change = if fields.is_empty() {
            self.bind_missing(&config).await?
        } else {
            info!(fields = fields.join(", "), "a router process of its own for the new configuration");
            self.start_aside(fields, &config).await?
        };
        // From here on there is no way back, and nothing that would need one.
        self.runtime_dir.add_tenants(&config)?;
        self.runtime_dir.adopt_config()?;
        // A router that starts from here on finds both, the configuration and its sockets.
        let change = self.adopt_sockets(&config, change)?;
        let _ = self.news.send(News::HelloTimeout(super::longest_hello(&config)));
        let (before, after) = (self.config.terminator_settings(), config.terminator_settings());
        let is_new = |(name, settings): &(&&str, &_)| before.get(**name) != Some(*settings);
        let replaced: Vec<String> = after.iter().filter(is_new).map(|(name, _)| (*name).to_owned()).collect();
        let gone: Vec<String> =
            self.terminators.keys().filter(|name| !after.contains_key(name.as_str())).cloned().collect();
        drop((before, after));
        let probes_others = self.config.prober_settings() != config.prober_settings();
        let mut retiring = Vec::new();
        let mut starting = JoinSet::new();
        let parts = LazyCell::new(|| Parts::of(&config));
        for name in &replaced {
            match self.start_successor(&config, &parts, &program, name) {
                Coming::Now { started, former } => drop(starting.spawn(started.takes_over(former))),
                Coming::OnDemand => {}
            }
        }
        drop(parts);
        retiring.extend(gone.into_iter().filter_map(|name| self.terminators.remove(&name)));
        if probes_others {
            // Nobody's connection waits for it.
            tokio::spawn(self.replace_prober(&config, &program));
        }
        // Taking a large one apart takes a while, and is nobody's to wait for.
        let _former = (mem::replace(&mut self.config, config), mem::replace(&mut self.text, text));
        let deadline = Instant::now() + TERMINATOR_PATIENCE;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, starting.join_next()).await {
            retiring.extend(ended.ok().flatten());
        }
        let changed = self.change_over(change, identity).await;
        retiring.into_iter().for_each(Retirement::retire);
        if !starting.is_empty() {
            warn!(
                terminators = starting.len(),
                "terminators do not start: where there is a former one it goes on serving"
            );
            // Theirs is the only word that may still retire the former ones.
            tokio::spawn(async move {
                while let Some(ended) = starting.join_next().await {
                    if let Ok(Some(former)) = ended {
                        former.retire();
                    }
                }
            });
        }
        changed
    }

    /// For people who ask systemd.
    pub(super) fn status(&self) -> String {
        format!("serving {} tenants on {} listeners", self.config.tenants.len(), self.config.listeners.len())
    }

    /// Tells the router, which counts for both.
    async fn count(&mut self, error: &NotReloaded) {
        let order = match error {
            NotReloaded::Unreadable(_) => Order::CountInvalid,
            // It has counted what it refused itself; who is not there counts nothing.
            NotReloaded::Invalid(_) | NotReloaded::ByRouter(_) | NotReloaded::Router(_) => return,
            NotReloaded::Refused(_)
            | NotReloaded::User(_)
            | NotReloaded::NotReplaced { .. }
            | NotReloaded::RuntimeDir(_)
            | NotReloaded::Bind(_)
            | NotReloaded::Terminator(_) => Order::CountRefused,
        };
        if self.give(&order).await.is_ok() {
            let _ = self.answer().await;
        }
    }

    /// Tells the router, which whoever wants to know asks.
    async fn explain(&mut self, error: &NotReloaded) {
        let mut why = error.to_string();
        why.truncate(why.floor_char_boundary(LONGEST_REASON));
        if self.give(&Order::NotReloaded(why)).await.is_ok() {
            let _ = self.answer().await;
        }
    }

    /// Gives the router an order; one that is just starting is waited for.
    pub(super) async fn give(&self, order: &Order) -> Result<(), NotReloaded> {
        let patience = Instant::now() + ROUTER_PATIENCE;
        loop {
            if let Some(line) = &*self.seat.line.lock().await {
                return Ok(line.give(order).await?);
            }
            if Instant::now() >= patience {
                return Err(io::Error::from(io::ErrorKind::NotConnected).into());
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// The answer to the last order.
    pub(super) async fn answer(&self) -> Result<(), NotReloaded> {
        let line = self.seat.line.lock().await;
        let line = line.as_ref().ok_or(io::ErrorKind::NotConnected).map_err(io::Error::from)?;
        match timeout(ROUTER_PATIENCE, line.wait_for_answer()).await {
            Ok(Ok(Answer::Done)) => Ok(()),
            Ok(Ok(Answer::Refused(why))) => Err(NotReloaded::ByRouter(why)),
            Ok(Err(error)) => Err(error.into()),
            Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

/// Reading 100,000 tenants takes the router less than a second.
const ROUTER_PATIENCE: Duration = Duration::from_secs(10);

/// Of many errors in a file the first ones say enough.
const LONGEST_REASON: usize = 4096;

pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(5);
