//! What can end a relay besides its own bytes: a reset that no read or write would meet, the idle timeout, the
//! caller. Polled only when one of them has called, so that moving bytes does not pay for it.

use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::end::RelayOutcome;

/// Why a relay moves no more bytes here.
#[derive(Debug)]
pub(super) enum Interruption {
    /// It is over.
    End(RelayOutcome),
    /// Somebody else goes on with it.
    Suspended,
}

/// Resolves with what ended the relay. `last_activity` is when a byte last moved.
pub(super) async fn interrupted(
    client: &TcpStream,
    backend: &TcpStream,
    last_activity: &Cell<Instant>,
    idle_timeout: Duration,
    stop: impl Future<Output = ()>,
    suspend: impl Future<Output = ()>,
) -> Interruption {
    // Every branch is dropped with the relay itself.
    Interruption::End(tokio::select! {
        error = socket_error(client) => RelayOutcome::of_client(error),
        error = socket_error(backend) => RelayOutcome::of_backend(error),
        () = stop => RelayOutcome::Stopped,
        () = suspend => return Interruption::Suspended,
        () = idle(last_activity, idle_timeout) => RelayOutcome::IdleTimeout,
    })
}

/// Waits for EPOLLERR, which the kernel reports whether or not anybody reads or writes: with the read side ended, or
/// with a full sink, nobody does.
async fn socket_error(socket: &TcpStream) -> std::io::Error {
    match socket.ready(Interest::ERROR).await {
        // Whoever asked first was told; then it was a reset as well as any.
        Ok(_) => socket.take_error().ok().flatten().unwrap_or_else(|| Errno::CONNRESET.into()),
        Err(runtime_ends) => runtime_ends,
    }
}

/// One timer that is set again only when it fires.
async fn idle(last_activity: &Cell<Instant>, timeout: Duration) {
    loop {
        let seen = last_activity.get();
        match seen.checked_add(timeout) {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => pending().await,
        }
        if last_activity.get() == seen {
            return;
        }
    }
}

/// Polls a future only when that future itself was woken, not whenever its task is.
pub(super) struct OnOwnWake<F> {
    future: F,
    waker: Option<(Arc<OwnWake>, Waker)>,
}

impl<F> OnOwnWake<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future, waker: None }
    }
}

impl<F: Future + Unpin> OnOwnWake<F> {
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        let (own, waker) = match &mut self.waker {
            Some(waker) if waker.0.task.will_wake(context.waker()) => waker,
            stale => {
                let own = Arc::new(OwnWake { due: AtomicBool::new(true), task: context.waker().clone() });
                stale.insert((Arc::clone(&own), Waker::from(own)))
            }
        };
        if own.due.swap(false, Ordering::AcqRel) {
            Pin::new(&mut self.future).poll(&mut Context::from_waker(waker))
        } else {
            Poll::Pending
        }
    }
}

struct OwnWake {
    due: AtomicBool,
    task: Waker,
}

impl Wake for OwnWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.due.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}
