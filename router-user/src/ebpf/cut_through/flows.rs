//! What is told of a flow when it is over, and to whom.

use tokio::sync::mpsc::UnboundedSender;

/// A flow's place in the table, for as long as it is that flow's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// Takes the ends of one worker's flows. Its queue needs no bound of its own: a flow ends once, and flows are bounded.
pub type EndSender = UnboundedSender<(Place, FlowEnd)>;

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
