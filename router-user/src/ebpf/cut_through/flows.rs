//! What is told of a flow when it is over, and to whom.

use std::any::Any;
use std::net::{SocketAddr, TcpStream};

use tokio::sync::mpsc::UnboundedSender;

use super::fallback::Fallback;
use super::note::Known;
use super::record::Identity;

/// A flow's place in the table, for as long as it is that flow's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// Takes the ends of one worker's flows. Its queue needs no bound of its own: a flow ends once, and flows are bounded.
pub type EndSender = UnboundedSender<(Place, Fate)>;

/// What becomes of a connection that was switched.
#[derive(Debug)]
pub enum Fate {
    /// It is over.
    Ended(FlowEnd),
    /// It cannot be carried after all. Nothing has passed the programs but the client's acknowledgements, and both
    /// sockets are as if the router had brought the client's first bytes to the backend itself.
    Returned {
        /// The client's.
        client: TcpStream,
        /// The backend's.
        backend: TcpStream,
        /// Why.
        reason: Fallback,
    },
}

/// The end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEnd {
    /// Bytes that the backend has acknowledged.
    pub client_to_backend: u64,
    /// Bytes that the client has acknowledged.
    pub backend_to_client: u64,
    /// How it ended.
    pub outcome: FlowOutcome,
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowOutcome {
    /// Both ends finished, and the other one acknowledged it.
    Ok,
    /// The client reset it.
    ClientReset,
    /// The backend reset it.
    BackendReset,
    /// Neither end sent anything for the tenant's `idleTimeout`; both were reset.
    IdleTimeout,
    /// It was ended on purpose; both were reset.
    Drained,
    /// The backend did not acknowledge the hello; both were reset.
    BackendSilent,
}

/// An adopted flow that has ended.
#[derive(Clone, Debug)]
pub struct AdoptedEnd {
    /// What the former process wrote down in numbers,
    pub identity: Identity,
    /// and in words, if it came to that.
    pub known: Option<Known>,
    /// The client.
    pub client: SocketAddr,
    /// The backend.
    pub backend: SocketAddr,
    /// The end.
    pub end: FlowEnd,
}

/// A flow of a former process that the kernel carries.
#[derive(Clone, Debug)]
pub struct AdoptedFlow {
    /// What the former process wrote down in numbers,
    pub identity: Identity,
    /// and in words, if it came to that.
    pub known: Option<Known>,
    /// The client.
    pub client: SocketAddr,
    /// The backend.
    pub backend: SocketAddr,
}

/// What a flow takes of limits and counts, given back when it is dropped.
pub type Occupied = Box<dyn Any + Send>;

/// Tells it of each flow.
pub(super) type Occupy = dyn Fn(&[AdoptedFlow]) -> Vec<Option<Occupied>> + Send;

/// Who knows what to do with adopted flows.
pub struct Adopted {
    /// What each of these flows occupies until it ends; `None` for one that is not to go on, because its tenant is gone from the
    /// configuration.
    pub occupy: Box<Occupy>,
    /// Called for each adopted flow at its end.
    pub on_end: Box<dyn Fn(AdoptedEnd) + Send>,
}
