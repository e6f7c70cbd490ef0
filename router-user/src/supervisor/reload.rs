//! Puts a changed configuration in force: the router gets ready first, then the terminators that it needs start, then the
//! router changes over, and only then terminators that nobody needs any more retire. What fails changes nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, LoadError, Mode, Parts, Startup, Terminate};
use tokio::net::UnixDatagram;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use super::child::{Child, Retirement, Role};
use super::memory_groups::MemoryGroups;
use super::on_demand::OnDemand;
use super::process::Process;
use super::roster::Roster;
use super::runtime_dir::{RuntimeDir, RuntimeDirError};
use super::seat::{NotReplaced, Seat};
use super::succession::Succession;
use super::systemd::ServiceManager;
use super::terminator;
use crate::config_file::ConfigFile;
use crate::demand::Demands;
use crate::failure::Failure;
use crate::listening::{BindError, Bound};
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
    fn take(&self) -> [bool; 2] {
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
}

/// Why the former configuration stays in force.
#[derive(Debug, thiserror::Error)]
enum NotReloaded {
    #[error("{0}")]
    Unreadable(#[from] LoadError),
    #[error("{0}")]
    Invalid(LoadError),
    #[error("{0}")]
    Refused(String),
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
            if let Err(error) = self.reload().await {
                error!("not reloaded, the former configuration stays in force: {error}");
                self.count(&error).await;
            }
            self.manager.ready(&self.status());
        }
    }

    async fn reload(&mut self) -> Result<(), NotReloaded> {
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
            let message = format!("{} cannot be changed by a reload: restart sni-router", fixed.join(", "));
            return Err(NotReloaded::Refused(message));
        }
        let program = terminator::program_for(&config).map_err(NotReloaded::Terminator)?;
        let sockets = self.seat.sockets.with(|bound| bound.bind_missing(&config))?;
        // From here on there is no way back, and nothing that would need one.
        self.runtime_dir.add_tenants(&config)?;
        let shared = sockets.iter().map(Bound::share).collect::<io::Result<Vec<_>>>()?;
        self.runtime_dir.adopt_config()?;
        // A router that starts from here on finds both, the configuration and its sockets.
        self.seat.sockets.with(|bound| {
            bound.without_use_for(&config).for_each(|name| self.manager.forget_listener(name));
            self.manager.keep_listeners(&sockets);
            bound.move_to(&config, sockets);
        });
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
        let parts = Parts::of(&config);
        for name in &replaced {
            match self.start_successor(&config, &parts, &program, name) {
                Coming::Now { started, former } => drop(starting.spawn(started.takes_over(former))),
                Coming::OnDemand => {}
            }
        }
        retiring.extend(gone.into_iter().filter_map(|name| self.terminators.remove(&name)));
        if probes_others {
            // Nobody's connection waits for it.
            tokio::spawn(self.replace_prober(&config, &program));
        }
        (self.config, self.text) = (config, text);
        let deadline = Instant::now() + TERMINATOR_PATIENCE;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, starting.join_next()).await {
            retiring.extend(ended.ok().flatten());
        }
        // A router that has crashed meanwhile has come up with the new configuration.
        let committed = match self.give_commit(&shared).await {
            Ok(()) => self.answer().await,
            Err(error) => Err(error),
        };
        drop(shared);
        if let Err(error) = committed {
            warn!("the router starts again: {error}");
        }
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
        Ok(())
    }

    /// For people who ask systemd.
    pub(super) fn status(&self) -> String {
        format!("serving {} tenants on {} listeners", self.config.tenants.len(), self.config.listeners.len())
    }

    /// Starts a terminator in the place of the one that serves, if one does.
    fn start_successor(&mut self, config: &Config, parts: &Parts<'_>, program: &Path, name: &str) -> Coming {
        let socket = config.handoff_socket(name);
        let started = Started { tenant: name.to_owned(), before: identity(&socket), socket };
        let (child, retirement) =
            Child::terminator(program, &self.runtime_dir.config(), name, &started.socket, &self.roster);
        let former = self.terminators.insert(name.to_owned(), retirement);
        let terminate = terminate(config, name);
        let is_limited = terminate.is_some_and(|terminate| terminate.sandbox.memory_max.is_some());
        let child = child.reading(parts.part(name));
        let child = child.in_group(is_limited.then(|| self.groups.of(name)).flatten());
        if terminate.is_none_or(|terminate| terminate.startup == Startup::Always) {
            let _ = self.news.send(News::Start(child));
            return Coming::Now { started, former };
        }
        let child =
            child.on_demand(OnDemand::new(self.demands.follow(name), started.socket.clone(), self.news.clone()));
        if started.before.is_none() {
            // Asleep: the former one goes before anybody can ask for both.
            former.into_iter().for_each(Retirement::retire);
            let _ = self.news.send(News::Start(child));
            return Coming::OnDemand;
        }
        let _ = self.news.send(News::Start(child.at_once()));
        Coming::Now { started, former }
    }

    /// Has the programs that are on disk now take the places of those that run: first the router, because it is the one
    /// that may refuse, then the terminators, one after the other, and in the end this process itself.
    async fn upgrade(&mut self, wishes: &Wishes) {
        let began = Instant::now();
        info!("upgrading to the programs that are on disk now");
        let handing_over = match self.seat.upgrade(&self.news).await {
            Ok(handing_over) => handing_over,
            Err(error) => {
                error!("not upgraded, the former router goes on serving: {error}");
                let order = Order::NotUpgraded(error.to_string());
                if !matches!(error, NotReplaced::Stopped) && self.give(&order).await.is_ok() {
                    let _ = self.answer().await;
                }
                return;
            }
        };
        let config = self.config.clone();
        let names: Vec<_> = config.terminator_settings().into_keys().map(str::to_owned).collect();
        if let Ok(program) = terminator::program_for(&config).inspect_err(|error| error!("terminators stay: {error}")) {
            let parts = Parts::of(&config);
            for name in &names {
                let (started, former) = match self.start_successor(&config, &parts, &program, name) {
                    Coming::Now { started, former } => (started, former),
                    Coming::OnDemand => continue,
                };
                let mut taking_over = tokio::spawn(started.takes_over(former));
                match timeout(TERMINATOR_PATIENCE, &mut taking_over).await {
                    Ok(former) => former.into_iter().flatten().for_each(Retirement::retire),
                    Err(_elapsed) => {
                        warn!(tenant = name, "the new terminator does not start: the former one goes on serving");
                        tokio::spawn(
                            async move { taking_over.await.into_iter().flatten().for_each(Retirement::retire) },
                        );
                    }
                }
            }
        }
        if let Ok(program) = terminator::program_for(&config) {
            self.replace_prober(&config, &program).await;
        }
        let _ = handing_over.await;
        info!(terminators = names.len(), took = ?began.elapsed(), "upgraded; the supervisor follows");
        let succession = Succession {
            program: &self.program,
            config_file: self.file.path(),
            runtime_dir: &self.config.runtime_dir,
            config_in_force: self.runtime_dir.config(),
            seat: &self.seat,
            lock: self.runtime_dir.lock(),
            demand_socket: &self.demand_socket,
            roster: &self.roster,
            memory_groups: self.groups.base(),
        };
        let Err(error) = succession.succeed(|| wishes.take()).await;
        error!("the supervisor goes on as the program that it was: {error}");
    }

    /// Tells the router, which counts for both.
    async fn count(&mut self, error: &NotReloaded) {
        let order = match error {
            NotReloaded::Unreadable(_) => Order::CountInvalid,
            // It has counted what it refused itself; who is not there counts nothing.
            NotReloaded::Invalid(_) | NotReloaded::ByRouter(_) | NotReloaded::Router(_) => return,
            NotReloaded::Refused(_)
            | NotReloaded::RuntimeDir(_)
            | NotReloaded::Bind(_)
            | NotReloaded::Terminator(_) => Order::CountRefused,
        };
        if self.give(&order).await.is_ok() {
            let _ = self.answer().await;
        }
    }

    /// Gives the router an order; one that is just starting is waited for.
    async fn give(&self, order: &Order) -> Result<(), NotReloaded> {
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

    /// Has the router change over, with these sockets besides those that it has.
    async fn give_commit(&self, sockets: &[Bound]) -> Result<(), NotReloaded> {
        let line = self.seat.line.lock().await;
        let line = line.as_ref().ok_or(io::ErrorKind::NotConnected).map_err(io::Error::from)?;
        line.give_listeners(sockets).await?;
        Ok(line.give(&Order::Commit).await?)
    }

    /// The answer to the last order.
    async fn answer(&self) -> Result<(), NotReloaded> {
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

/// A terminator that takes the place of `former`, if there is one.
enum Coming {
    Now {
        started: Started,
        former: Option<Retirement>,
    },
    /// When it is asked for.
    OnDemand,
}

/// A terminator that was started in the place of another one, or of none.
struct Started {
    tenant: String,
    socket: PathBuf,
    /// What was at the socket's path before.
    before: Option<(u64, u64)>,
}

impl Started {
    /// Waits until it has made its socket. Gives the former one back, which may retire then.
    async fn takes_over(self, former: Option<Retirement>) -> Option<Retirement> {
        loop {
            let now = identity(&self.socket);
            if now.is_some() && now != self.before {
                info!(tenant = self.tenant, replaces = former.is_some(), "terminator in service");
                return former;
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

fn terminate<'c>(config: &'c Config, tenant: &str) -> Option<&'c Terminate> {
    match &config.tenant(tenant)?.mode {
        Mode::Terminate(terminate) => Some(terminate),
        Mode::Passthrough => None,
    }
}

/// Tells two files at the same path apart, as long as the first one has not been removed before the second was made.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Starting one takes tens of milliseconds; one that cannot start must not keep the others' changes back for long.
pub(super) const TERMINATOR_PATIENCE: Duration = Duration::from_secs(5);

/// Reading 100,000 tenants takes the router less than a second.
const ROUTER_PATIENCE: Duration = Duration::from_secs(10);

pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(5);
