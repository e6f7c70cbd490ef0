//! Who runs: every child process, with what an upgrade of the supervisor itself has to know of it.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::child::Role;

/// All of them. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster(Arc<Mutex<Vec<Arc<Entry>>>>);

/// One of them.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pid: i32,
    pub(super) role: Role,
    /// Its standard input where that only tells whether we are there.
    pub(super) lifeline: Option<OwnedFd>,
    is_leaving: AtomicBool,
}

impl Roster {
    pub(super) fn enter(&self, pid: i32, role: Role, lifeline: Option<OwnedFd>) -> Arc<Entry> {
        let entry = Arc::new(Entry { pid, role, lifeline, is_leaving: AtomicBool::new(false) });
        self.list().push(Arc::clone(&entry));
        entry
    }

    pub(super) fn remove(&self, pid: i32) {
        self.list().retain(|entry| entry.pid != pid);
    }

    /// Those that run now.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        self.list().clone()
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// It has no place any more and ends with its connections.
    pub(super) fn leaves(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }
}
