//! What can go wrong with a hand-off, on either side.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A hand-off, or its channel, that failed.
#[derive(Debug, Error)]
pub enum HandoffError {
    /// The other process is gone or has stopped receiving.
    #[error("hand-off: the other process is gone or receives no more")]
    PeerGone,
    /// Nobody listens at the path (yet, or any more), or nobody accepts.
    #[error("connect to terminator at {}: {source}", path.display())]
    NotListening {
        /// The hand-off socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// This process has no descriptor, or the kernel no memory, for a channel.
    #[error("connect to terminator at {}: {source}", path.display())]
    OutOfResources {
        /// The hand-off socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path cannot be connected to, and waiting will not help.
    #[error("connect to terminator at {}: {source}", path.display())]
    Connect {
        /// The hand-off socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The first byte of a message is another version than ours.
    #[error("hand-off: protocol version {theirs} of the other process is not {ours}")]
    UnknownVersion {
        /// What the message says.
        theirs: u8,
        /// What this build speaks.
        ours: u8,
    },
    /// The message does not fit; on the receiving side its descriptors have been closed.
    #[error("hand-off: message is longer than {limit} bytes")]
    TooLong {
        /// The most that fits.
        limit: usize,
    },
    /// A connection came with none or with several descriptors; all have been closed.
    #[error("hand-off: a connection needs one descriptor, {count} came")]
    WrongDescriptors {
        /// How many came.
        count: usize,
    },
    /// The kernel dropped descriptors (MSG_CTRUNC): too many were sent, or RLIMIT_NOFILE is reached.
    #[error("hand-off: descriptors were lost on the way; is the limit of open files reached?")]
    DescriptorsLost,
    /// The descriptor is no stream socket.
    #[error("hand-off: the descriptor is no stream socket")]
    NotAConnection,
    /// The payload is no message of this protocol.
    #[error("hand-off: message cannot be read: {0}")]
    Malformed(#[source] serde_json::Error),
    /// The socket itself failed.
    #[error("hand-off: {operation}: {source}")]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl HandoffError {
    /// Whether only this message is lost, and the channel can be used further.
    pub fn is_about_one_message(&self) -> bool {
        match self {
            Self::UnknownVersion { .. }
            | Self::TooLong { .. }
            | Self::WrongDescriptors { .. }
            | Self::DescriptorsLost
            | Self::NotAConnection
            | Self::Malformed(_) => true,
            Self::PeerGone
            | Self::NotListening { .. }
            | Self::OutOfResources { .. }
            | Self::Connect { .. }
            | Self::Socket { .. } => false,
        }
    }

    /// Whether connecting anew can help after a while: the other process can come back, descriptors too.
    pub fn can_pass(&self) -> bool {
        matches!(self, Self::PeerGone | Self::NotListening { .. } | Self::OutOfResources { .. })
    }

    pub(super) fn socket(operation: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Socket { operation, source: source.into() }
    }
}
