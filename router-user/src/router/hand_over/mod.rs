//! Passes connections on to the router that takes this one's place: relayed ones with all that is under way, and those of
//! which nothing has been read as they are. Decides nothing about them.

mod message;
mod take_over;

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::connection::channel::Channel;
use ::connection::clock::monotonic_ns;
use ::connection::relay::SuspendedRelay;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::access::AccessRecord;
use super::connection::Unread;
use super::passthrough::Terms;
pub(super) use message::{HandedOver, RelayedConnection, UnreadConnection};
pub(super) use take_over::{Successor, take_over};

/// The way to the next router, from the moment on at which it is to have everything.
#[derive(Debug)]
pub struct HandOver {
    channel: watch::Sender<Option<Arc<Channel>>>,
    /// The listeners that the next router does not have.
    kept: Mutex<Vec<String>>,
    /// Why the last upgrade that was asked for did not happen.
    refused: watch::Sender<String>,
    /// Whether everybody who has asked here for anything has the answer, and nobody else comes.
    all_are_answered: watch::Sender<bool>,
}

impl HandOver {
    pub(super) fn new() -> Self {
        Self {
            channel: watch::Sender::new(None),
            kept: Mutex::default(),
            refused: watch::Sender::default(),
            all_are_answered: watch::Sender::default(),
        }
    }

    /// The next router will not have this listener: its connections are handed over when they have backends, not before.
    pub(super) fn keep(&self, listener: String) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Whether that was said of it.
    pub(super) fn keeps(&self, listener: &str) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|kept| kept == listener)
    }

    /// From now on. The channel belongs to the calling thread's runtime, which has to live until everybody is gone.
    pub(super) fn begin(&self, channel: Channel) {
        self.channel.send_replace(Some(Arc::new(channel)));
    }

    /// Whether that is so.
    pub fn is_begun(&self) -> bool {
        self.channel.borrow().is_some()
    }

    /// Resolves once connections are to be handed over.
    pub async fn begun(&self) {
        if self.channel.subscribe().wait_for(Option::is_some).await.is_err() {
            // Not while `self` is borrowed.
            std::future::pending::<()>().await;
        }
    }

    /// Resolves once connections of this listener that have no backend are to be handed over.
    pub(super) async fn begun_for(&self, listener: &str) {
        self.begun().await;
        if self.keeps(listener) {
            std::future::pending::<()>().await;
        }
    }

    /// There is no next router, for this reason.
    pub(super) fn refuse(&self, why: String) {
        self.refused.send_replace(why);
    }

    /// What becomes of an upgrade that is asked for now: resolves once connections are to be handed over, or with the
    /// reason why they are not.
    pub async fn outcome(&self, ask: impl FnOnce()) -> Result<(), String> {
        let mut refused = self.refused.subscribe();
        ask();
        // Both may be dropped: they look at a value.
        tokio::select! {
            () = self.begun() => Ok(()),
            Ok(()) = refused.changed() => Err(refused.borrow().clone()),
        }
    }

    /// Says so. Those who come later ask the next router.
    pub fn all_are_answered(&self) {
        self.all_are_answered.send_replace(true);
    }

    /// Waits for that, but not for long.
    pub(super) async fn answered(&self) {
        if self.is_begun() {
            let mut answered = self.all_are_answered.subscribe();
            // Whoever is slower than that gets no answer.
            let _ = timeout(LAST_WORDS, answered.wait_for(|all| *all)).await;
        }
    }

    /// Hands over a connection that nobody has read from; gives it back where nobody takes it.
    pub(super) async fn unread(&self, unread: Unread) -> Result<(), Unread> {
        let arrival = &unread.arrival;
        let message = HandedOver::Unread(UnreadConnection {
            id: arrival.id,
            listener: arrival.listener.to_string(),
            peer: arrival.peer,
            client: arrival.client,
            told_local: arrival.told_local,
            is_header_taken: arrival.is_header_taken,
            is_source_admitted: arrival.is_source_admitted,
            accepted_at: arrival.accepted_at,
            accepted_monotonic_ns: monotonic_ns(arrival.accepted.into_std()),
            deadline_monotonic_ns: monotonic_ns(arrival.deadline.into_std()),
        });
        match self.send(&message, &[&unread.stream]).await {
            Ok(()) => Ok(()),
            Err(_) => Err(unread),
        }
    }

    /// Hands over a relay; gives it back where nobody takes it.
    pub(super) async fn relayed(
        &self,
        record: &AccessRecord<'_>,
        terms: Terms<'_>,
        relay: SuspendedRelay,
    ) -> Result<(), SuspendedRelay> {
        let SuspendedRelay { client, backend, progress } = relay;
        let Terms { tenant, backend: address, idle_timeout, drain_timeout } = terms;
        let message = HandedOver::Relayed(Box::new(RelayedConnection {
            record: record.passport(),
            tenant: tenant.to_owned(),
            backend: address,
            idle_timeout,
            drain_timeout,
            progress,
        }));
        let sent = self.send(&message, &[&client, &backend]).await;
        match (sent, message) {
            (Err(_), HandedOver::Relayed(back)) => Err(SuspendedRelay { client, backend, progress: back.progress }),
            _ => Ok(()),
        }
    }

    async fn send(&self, message: &HandedOver, connections: &[&impl AsFd]) -> io::Result<()> {
        let channel = self.channel.borrow().clone();
        let Some(channel) = channel else { return Err(io::ErrorKind::NotConnected.into()) };
        let descriptors: Vec<_> = connections.iter().map(AsFd::as_fd).collect();
        let sent = channel.send(&message.encode()?, &descriptors).await;
        if let Err(error) = &sent
            && self.channel.send_if_modified(|channel| channel.take().is_some())
        {
            warn!(%error, "the next router takes no connections: those that are left end here");
        }
        sent
    }
}

/// A page takes milliseconds; one that asks a terminator which does not answer takes longer, and nobody waits for that.
const LAST_WORDS: Duration = Duration::from_millis(500);
