//! What a relay reports when it is over.

use std::io;

use rustix::io::Errno;

/// What a relay did and how it ended.
#[derive(Debug)]
pub struct RelayEnd {
    /// Bytes that were written to the backend.
    pub client_to_backend: u64,
    /// Bytes that were written to the client.
    pub backend_to_client: u64,
    /// The best rung that either direction used.
    pub path: DataPath,
    /// Why a direction that should have been spliced was copied: `no_pipe`.
    pub fallback: Option<&'static str>,
    /// How it ended.
    pub outcome: RelayOutcome,
}

impl RelayEnd {
    /// Of a relay that could not go on for want of something of ours, after these bytes to the backend and to the client.
    pub(super) fn of_failure([client_to_backend, backend_to_client]: [u64; 2], error: io::Error) -> Self {
        let outcome = RelayOutcome::ClientError(error);
        Self { client_to_backend, backend_to_client, path: DataPath::Copy, fallback: None, outcome }
    }
}

/// How bytes were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DataPath {
    /// Through the worker's buffer.
    Copy,
    /// Through a pipe, without leaving the kernel.
    Splice,
}

impl DataPath {
    /// The label of counters and of the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Splice => "splice",
        }
    }
}

/// How a relay ended.
#[derive(Debug)]
pub enum RelayOutcome {
    /// Both sides ended with a FIN and everything was delivered.
    Ok,
    /// The client sent a RST, which the backend got too.
    ClientReset,
    /// The backend sent a RST, which the client got too.
    BackendReset,
    /// The client's stream ended without its proper end (TLS close_notify); the backend was reset.
    ClientTruncated,
    /// The backend's stream ended without its proper end (TLS close_notify), and so did the client's.
    BackendTruncated,
    /// No byte moved for the idle timeout; both were reset.
    IdleTimeout,
    /// The caller's `stop` resolved; both were reset.
    Stopped,
    /// The client's connection or stream failed otherwise; the backend was reset.
    ClientError(io::Error),
    /// The backend's connection failed otherwise; the client was reset.
    BackendError(io::Error),
}

impl RelayOutcome {
    /// The label of counters and of the access log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::ClientTruncated => "client_truncated",
            Self::BackendTruncated => "backend_truncated",
            Self::IdleTimeout => "idle_timeout",
            Self::Stopped => "stopped",
            Self::ClientError(_) => "client_error",
            Self::BackendError(_) => "backend_error",
        }
    }

    pub(super) fn of_client(error: io::Error) -> Self {
        if is_reset(&error) {
            Self::ClientReset
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::ClientTruncated
        } else {
            Self::ClientError(error)
        }
    }

    pub(super) fn of_backend(error: io::Error) -> Self {
        if is_reset(&error) {
            Self::BackendReset
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::BackendTruncated
        } else {
            Self::BackendError(error)
        }
    }
}

/// The first operation after a RST reports ECONNRESET; a write after that EPIPE, a shutdown ENOTCONN (tcp(7)).
fn is_reset(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN))
}
