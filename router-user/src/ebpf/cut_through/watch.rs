//! Interfaces while the router runs: those that appear get the programs, and those that begin to merge packets beyond
//! what can be translated carry no new flows.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use tracing::warn;

use super::attach::Attacher;
use super::shared::State;
use crate::ebpf::netlink::Netlink;

/// Belongs to the collector's thread.
pub(super) struct Watch {
    changes: Netlink,
    attacher: Attacher,
    state: Arc<State>,
}

impl Watch {
    /// From here on nothing is missed.
    pub(super) fn new(mut attacher: Attacher, state: Arc<State>) -> io::Result<Self> {
        attacher.unprivileged();
        let watch = Self { changes: Netlink::link_changes()?, attacher, state };
        watch.state.set_merging(watch.attacher.merging().collect());
        Ok(watch)
    }

    /// Looks when something was said.
    pub(super) fn look(&mut self) {
        if !self.changes.heard() {
            return;
        }
        if let Err(error) = self.attacher.look_and_tell() {
            warn!("cut-through: {error}");
        }
        self.state.set_merging(self.attacher.merging().collect());
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }
}
