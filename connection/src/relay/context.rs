//! What all relays of one worker thread share.

use std::cell::RefCell;
use std::rc::Rc;

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
    #[expect(dead_code, reason = "the relay is being built")]
    shared: Rc<Shared>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "the relay is being built")]
struct Shared {
    policy: RelayPolicy,
    buffer: RefCell<Box<[u8]>>,
}

impl RelayContext {
    /// Allocates the worker's buffer; pipes are made when they are first needed.
    pub fn new(policy: RelayPolicy) -> Self {
        Self { shared: Rc::new(Shared { policy, buffer: RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice()) }) }
    }
}

const BUFFER_BYTES: usize = 64 * 1024;
