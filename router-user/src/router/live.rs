//! The live connections of one worker: counted by guards, awaited by the drain.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// A count that can be awaited to be zero. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Live(Rc<State>);

/// One live connection.
#[derive(Debug)]
pub(super) struct LiveGuard(Rc<State>);

#[derive(Debug, Default)]
struct State {
    count: Cell<usize>,
    zero: Notify,
}

impl Live {
    /// Counts one connection until the guard is dropped.
    pub(super) fn enter(&self) -> LiveGuard {
        self.0.count.set(self.0.count.get() + 1);
        LiveGuard(self.0.clone())
    }

    /// Resolves when no connection is live.
    pub(super) async fn none_left(&self) {
        while self.0.count.get() > 0 {
            self.0.zero.notified().await;
        }
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        let left = self.0.count.get() - 1;
        self.0.count.set(left);
        if left == 0 {
            self.0.zero.notify_one();
        }
    }
}
