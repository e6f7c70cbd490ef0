//! A flow as the collector knows it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use router_common::cut_through::{BACKEND, FlowKey, Note};

use super::adopt::ends;
use super::flows::{EndSender, Occupied};
use super::opening::Opening;

/// A flow that was just switched, or one that a former process left.
#[derive(Debug)]
pub(super) struct NewFlow {
    pub(super) place: u32,
    pub(super) generation: u32,
    pub(super) keys: [FlowKey; 2],
    pub(super) client: SocketAddr,
    /// Our address towards the client.
    pub(super) local: SocketAddr,
    pub(super) backend: SocketAddr,
    /// Our port towards the backend.
    pub(super) port: u16,
    /// `None` when the programs carry it already.
    pub(super) opening: Option<Opening>,
    pub(super) idle_timeout: Duration,
    pub(super) note: FlowNote,
    pub(super) owner: Owner,
}

/// Where the words about a flow are.
#[derive(Debug)]
pub(super) enum FlowNote {
    /// Here, as long as a crash of the router would end the flow.
    Here(Box<Note>),
    /// In the map.
    Kept,
    /// There are none, or there is no need any more.
    None,
}

/// Who hears of a flow's end.
#[derive(Debug)]
pub(super) enum Owner {
    /// The worker that accepted it.
    Worker(EndSender),
    /// Nobody of this process: the flow's record says who it was.
    Adopted {
        /// As soon as it is known who has it.
        _occupied: Option<Occupied>,
    },
    /// It has been told.
    Told,
}

impl NewFlow {
    /// Who began each of the two connections, and to whom.
    pub(super) fn connections(&self) -> [(SocketAddr, SocketAddr); 2] {
        [(self.client, self.local), (SocketAddr::new(self.local_towards_backend(), self.port), self.backend)]
    }

    /// Our address towards the backend.
    pub(super) fn local_towards_backend(&self) -> IpAddr {
        ends(&self.keys[BACKEND]).1.ip()
    }
}
