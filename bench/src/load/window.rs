//! The time during which clients count.

use std::sync::atomic::{AtomicU8, Ordering};

/// Not yet open, open, closed; in this order.
#[derive(Debug, Default)]
pub(crate) struct Window(AtomicU8);

impl Window {
    /// Counts from now on.
    pub(super) fn open(&self) {
        self.0.store(OPEN, Ordering::Relaxed);
    }

    /// Clients leave at the next opportunity.
    pub(super) fn close(&self) {
        self.0.store(CLOSED, Ordering::Relaxed);
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OPEN
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == CLOSED
    }
}

const OPEN: u8 = 1;
const CLOSED: u8 = 2;
