//! The end of a process's part: it takes no new flows, its collector notes what the next process has to know, and only
//! then it may go.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::watch;

/// Whether it has begun, and whether it is over.
#[derive(Debug)]
pub(super) struct Leaving {
    has_begun: AtomicBool,
    /// Wakes the collector, which may wait for a second otherwise.
    bell: OwnedFd,
    is_over: watch::Sender<bool>,
}

impl Leaving {
    pub(super) fn not_yet() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { has_begun: AtomicBool::new(false), bell, is_over: watch::Sender::default() })
    }

    /// From here on.
    pub(super) fn begin(&self) {
        self.has_begun.store(true, Ordering::SeqCst);
        // Fails only when it rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::SeqCst)
    }

    /// So that the next wait is one again.
    pub(super) fn has_been_heard(&self) {
        // Fails only when nobody has rung.
        let _ = rustix::io::read(&self.bell, &mut [0; size_of::<u64>()]);
    }

    /// The next process may begin.
    pub(super) fn end(&self) {
        self.is_over.send_replace(true);
    }

    /// Resolves when that is so. Cancel-safe.
    pub(super) async fn ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.is_over.subscribe().wait_for(|over| *over).await;
    }
}

/// Readable while the end has begun and nobody has heard of it.
impl AsFd for Leaving {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
