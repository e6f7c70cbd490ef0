//! What hand-offs had to wait for, counted once for each hand-off and reason.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::label_set;

label_set! {
    /// What was lacking: label `reason` of `sni_router_handoff_waits_total`.
    pub enum HandoffWait {
        /// The terminator has not taken what is queued for it.
        QueueFull = "queue_full",
        /// As many descriptors are under way from this user as may be (RLIMIT_NOFILE, unix(7)).
        TooManyUnderWay = "too_many_under_way",
        /// The kernel has no memory for the message.
        NoMemory = "no_memory",
    }
}

/// Counts of one worker and tenant.
#[derive(Debug, Default)]
pub struct HandoffWaits([AtomicU64; HandoffWait::ALL.len()]);

impl HandoffWaits {
    /// Hand-offs that waited for this.
    pub fn total(&self, reason: HandoffWait) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, reason: HandoffWait) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl HandoffWait {
    /// What a failed sendmsg(2) waits for, if waiting helps.
    pub(super) fn of(error: Errno) -> Option<Self> {
        match error {
            Errno::AGAIN => Some(Self::QueueFull),
            Errno::TOOMANYREFS => Some(Self::TooManyUnderWay),
            Errno::NOBUFS | Errno::NOMEM => Some(Self::NoMemory),
            _ => None,
        }
    }
}
