//! One worker's connection to one tenant's terminator: made when first needed, made again when the terminator was
//! restarted. Sends descriptors, reads nothing.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::connection::handoff::{Handoff, HandoffError, HandoffSender, HandoffWaits};
use config::Tenant;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use crate::demand::ask;
use crate::names::Names;

/// The way to one terminator.
#[derive(Debug)]
pub(super) struct TerminatorLink {
    socket: PathBuf,
    current: RefCell<Option<Rc<HandoffSender>>>,
    /// Held by the one task that connects; the others wait for its result.
    connecting: Mutex<()>,
    /// Where the terminator is started by a connection.
    asking: Option<Asking>,
    waits: Arc<HandoffWaits>,
    names: Arc<Names>,
    tenant: Arc<Tenant>,
}

/// How a worker asks for a terminator: seldom, however many connections wait for it.
#[derive(Debug)]
pub(super) struct Asking {
    socket: PathBuf,
    tenant: String,
    last: Cell<Option<Instant>>,
}

impl Asking {
    pub(super) fn new(socket: PathBuf, tenant: &str) -> Self {
        Self { socket, tenant: tenant.to_owned(), last: Cell::new(None) }
    }

    fn ask(&self) {
        let now = Instant::now();
        if self.last.get().is_none_or(|last| now.duration_since(last) >= RETRY_PAUSE) {
            self.last.set(Some(now));
            ask(&self.socket, &self.tenant);
        }
    }
}

/// The terminator took no connection until the deadline.
#[derive(Debug, thiserror::Error)]
#[error("hand over to {}: {reason}", socket.display())]
pub(super) struct TerminatorUnavailable {
    socket: PathBuf,
    reason: String,
}

impl TerminatorLink {
    /// A link that is not connected yet.
    pub(super) fn new(
        socket: PathBuf,
        asking: Option<Asking>,
        waits: Arc<HandoffWaits>,
        names: Arc<Names>,
        tenant: Arc<Tenant>,
    ) -> Self {
        Self { socket, current: RefCell::new(None), connecting: Mutex::new(()), asking, waits, names, tenant }
    }

    /// Whether nobody is expected to be there unless asked for.
    pub(super) fn is_on_demand(&self) -> bool {
        self.asking.is_some()
    }

    /// Sends the connection, unread. Until `deadline` a terminator that is gone is waited for: the supervisor starts
    /// a crashed one again.
    pub(super) async fn hand_over(
        &self,
        handoff: &Handoff,
        stream: &impl AsFd,
        source: Option<BorrowedFd<'_>>,
        deadline: Instant,
    ) -> Result<(), TerminatorUnavailable> {
        let mut reason = match self.asking {
            Some(_) => "it was not started until the deadline".to_owned(),
            None => "no answer until the deadline".to_owned(),
        };
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = async {
                let sender = self.sender().await?;
                let sent = sender.send_with(handoff, stream, source).await;
                if sent.as_ref().is_err_and(|error| !error.is_about_one_message()) {
                    self.forget(&sender);
                }
                sent
            };
            match timeout_at(deadline, attempt).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if error.can_pass() => reason = error.to_string(),
                Ok(Err(error)) => return Err(self.unavailable(error.to_string())),
                Err(_elapsed) => return Err(self.unavailable(reason)),
            }
            if timeout_at(deadline, sleep(pause)).await.is_err() {
                return Err(self.unavailable(reason));
            }
            pause = (2 * pause).min(RETRY_PAUSE);
        }
    }

    async fn sender(&self) -> Result<Rc<HandoffSender>, HandoffError> {
        if let Some(sender) = self.connected() {
            return Ok(sender);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(sender) = self.connected() {
            return Ok(sender);
        }
        let sender = Rc::new(self.connect().await?.counting(Arc::clone(&self.waits)));
        // Ahead of the first connection, for a terminator that has just been started. Later changes are told by
        // `names::announce`.
        for resolved in self.names.of(&self.tenant) {
            sender.send_addresses(&resolved).await?;
        }
        *self.current.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }

    /// A terminator that is started by demand is asked and waited for, by whoever came first; nothing tells of its socket.
    async fn connect(&self) -> Result<HandoffSender, HandoffError> {
        let began = Instant::now();
        loop {
            match (HandoffSender::connect(&self.socket), &self.asking) {
                (Err(error), Some(asking)) if error.can_pass() => asking.ask(),
                (connected, _) => return connected,
            }
            // The longer it takes, the less a moment more matters.
            sleep((began.elapsed() / 8).clamp(FIRST_PAUSE, RETRY_PAUSE)).await;
        }
    }

    fn connected(&self) -> Option<Rc<HandoffSender>> {
        self.current.borrow().clone()
    }

    /// Another task may have connected anew in the meantime; only the sender that failed is dropped.
    fn forget(&self, failed: &Rc<HandoffSender>) {
        let mut current = self.current.borrow_mut();
        if current.as_ref().is_some_and(|sender| Rc::ptr_eq(sender, failed)) {
            *current = None;
        }
    }

    fn unavailable(&self, reason: String) -> TerminatorUnavailable {
        TerminatorUnavailable { socket: self.socket.clone(), reason }
    }
}

/// Between two attempts to reach a terminator that is being restarted: the supervisor's first pause.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A terminator that is replaced is back at once, and one that is started by demand within milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
