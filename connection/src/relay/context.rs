//! What all relays of one worker thread share: the policy, one buffer, the pipes.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use super::pipe_pool::PipePool;

/// Which ways of moving bytes a relay may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayPolicy {
    /// Copy, and splice a direction while it is bulk.
    Auto,
    /// Splice from the first byte.
    Splice,
    /// Copy, always.
    Copy,
}

/// One per worker thread; clones share it and it cannot leave the thread.
#[derive(Clone, Debug)]
pub struct RelayContext {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    policy: RelayPolicy,
    buffer: RefCell<Box<[u8]>>,
    pipes: Rc<PipePool>,
}

impl RelayContext {
    /// Allocates the worker's buffer; pipes are made when they are first needed.
    pub fn new(policy: RelayPolicy) -> Self {
        Self::with_pipes(policy, MAX_PIPES)
    }

    pub(super) fn with_pipes(policy: RelayPolicy, max_pipes: usize) -> Self {
        let buffer = RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice());
        Self { shared: Rc::new(Shared { policy, buffer, pipes: Rc::new(PipePool::new(max_pipes)) }) }
    }

    pub(super) fn policy(&self) -> RelayPolicy {
        self.shared.policy
    }

    pub(super) fn pipes(&self) -> &Rc<PipePool> {
        &self.shared.pipes
    }

    /// Borrowed within one poll of one direction, so it is always free.
    pub(super) fn buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.shared.buffer.borrow_mut()
    }
}

/// One read's worth: large enough that a system call's fixed cost vanishes, small enough for a core's L2 cache.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// A direction holds a pipe only while bytes are in it, so this many sinks of one worker can be blocked at a time
/// before others go on copying. Four workers stay below the 1,024 pipes of full size that one user may have
/// (pipe(7), pipe-user-pages-soft).
const MAX_PIPES: usize = 256;
