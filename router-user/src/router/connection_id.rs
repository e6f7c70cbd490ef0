//! Numbers for connections: unique over workers, restarts and a long time, without anything shared.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use ::connection::ConnectionId;

/// Gives out the numbers of one worker: the second of its start, its index, a running number.
#[derive(Debug)]
pub(super) struct ConnectionIds {
    next: Cell<u64>,
}

impl ConnectionIds {
    /// The numbers of worker `index`.
    pub(super) fn new(index: usize) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // 24 bits of seconds, which come again after half a year; 8 bits of worker; 32 bits of running number.
        Self { next: Cell::new((started << 40) | ((index as u64 & 0xff) << 32)) }
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
        let (first, second) = (ConnectionIds::new(0), ConnectionIds::new(1));
        assert_ne!(first.next(), first.next());
        assert_ne!(first.next().0 >> 32, second.next().0 >> 32);
    }
}
