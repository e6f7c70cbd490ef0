//! A terminator that is started by a connection: when to start it, and when to start another one although the first has
//! not ended, because it takes nothing new any more and still has connections.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::child::Child;
use super::reload::News;
use crate::demand::Demand;

/// What a child needs that waits to be asked for.
#[derive(Clone, Debug)]
pub(super) struct OnDemand {
    demand: Demand,
    socket: PathBuf,
    news: UnboundedSender<News>,
}

impl OnDemand {
    pub(super) fn new(demand: Demand, socket: PathBuf, news: UnboundedSender<News>) -> Self {
        Self { demand, socket, news }
    }

    /// Resolves when the terminator is to be started. Cancel-safe.
    pub(super) async fn wanted(&mut self) {
        self.demand.next().await;
    }

    /// What was asked for before the terminator ended, it has met; what was not, is asked for again.
    pub(super) fn forget(&mut self) {
        self.demand.forget();
    }

    /// Resolves when the terminator, which runs since `started`, is asked for although its socket is gone: it was idle and
    /// takes nothing new, and a connection came at the last moment. Cancel-safe.
    pub(super) async fn wanted_again(&mut self, started: Instant) {
        loop {
            self.demand.next().await;
            if started.elapsed() > LONGEST_START && std::fs::symlink_metadata(&self.socket).is_err() {
                return;
            }
        }
    }

    /// Starts a child in the place of one that goes.
    pub(super) fn succeed(&self, child: Child) {
        // The receiver lives as long as the supervisor.
        let _ = self.news.send(News::Start(child));
    }
}

/// A terminator without a socket that is younger is still starting.
const LONGEST_START: Duration = Duration::from_secs(5);
