//! Numbers for connections: unique over workers, restarts and a long time, without anything shared.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

use ::connection::ConnectionId;

/// Gives out the numbers of one worker: a random one and those that follow. Two processes that follow each other within a
/// moment, as in an upgrade, have nothing else to tell them apart.
#[derive(Debug)]
pub(super) struct ConnectionIds {
    next: Cell<u64>,
}

impl ConnectionIds {
    /// The numbers of one worker.
    pub(super) fn new() -> Self {
        // Of 2^64 numbers a worker uses some 2^40 in its life, so that two of them hardly ever meet.
        Self { next: Cell::new(RandomState::new().build_hasher().finish()) }
    }

    /// The next number.
    pub(super) fn next(&self) -> ConnectionId {
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        ConnectionId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_within_and_between_workers() {
        let (first, second) = (ConnectionIds::new(), ConnectionIds::new());
        assert_ne!(first.next(), first.next());
        assert_ne!(first.next().0 >> 24, second.next().0 >> 24);
    }
}
