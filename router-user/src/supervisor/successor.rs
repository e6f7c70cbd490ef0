//! Terminators that take the places of others: who is started, and when the former one may go.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, Mode, Parts, Startup, Terminate};
use tokio::time::sleep;
use tracing::info;

use super::child::{Child, Retirement};
use super::on_demand::OnDemand;
use super::reload::{News, POLL_INTERVAL, Reloader};

impl Reloader {
    /// Starts a terminator in the place of the one that serves, if one does.
    pub(super) fn start_successor(&mut self, config: &Config, parts: &Parts<'_>, program: &Path, name: &str) -> Coming {
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
}

/// A terminator that takes the place of `former`, if there is one.
pub(super) enum Coming {
    Now {
        started: Started,
        former: Option<Retirement>,
    },
    /// When it is asked for.
    OnDemand,
}

/// A terminator that was started in the place of another one, or of none.
pub(super) struct Started {
    tenant: String,
    socket: PathBuf,
    /// What was at the socket's path before.
    before: Option<(u64, u64)>,
}

impl Started {
    /// Waits until it has made its socket. Gives the former one back, which may retire then.
    pub(super) async fn takes_over(self, former: Option<Retirement>) -> Option<Retirement> {
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
