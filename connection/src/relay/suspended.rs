//! A relay between two TCP connections that was stopped where nothing is under way, so that another process can go on with
//! it: the connections, the bytes that were read and not yet written, and what has ended already.

use std::net::TcpStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything of a relay. Dropping it closes both connections.
#[derive(Debug)]
pub struct SuspendedRelay {
    /// The client's connection.
    pub client: TcpStream,
    /// The backend's.
    pub backend: TcpStream,
    /// How far the relay has come.
    pub progress: Progress,
}

/// How far a relay has come; the default is that nothing has been read yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What the client sends.
    pub client_to_backend: SuspendedDirection,
    /// What the backend sends.
    pub backend_to_client: SuspendedDirection,
    /// For how long no byte has moved.
    pub idle: Duration,
}

/// One direction of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspendedDirection {
    /// How far it has come.
    pub stage: SuspendedStage,
    /// Bytes that the sink has taken.
    pub delivered: u64,
    /// Whether any of them were spliced.
    pub spliced: bool,
    /// Whether some were copied for want of a pipe.
    pub lacked_pipe: bool,
    /// What the source gave and the sink has not taken: at most one buffer's or one pipe's content. Travels beside the
    /// rest.
    #[serde(skip)]
    pub undelivered: Vec<u8>,
}

/// How far a direction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuspendedStage {
    /// The source may send more.
    #[default]
    Flowing,
    /// The source has ended and the sink is still to be told.
    Ending,
    /// Both know.
    Ended,
}
