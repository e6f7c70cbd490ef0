//! How a handed-over connection ended: label `outcome` of connection counters and field of the access log.
//! A closed set; the one place that maps the ends of relays and dials to it.

use connection::DialError;
use connection::relay::RelayOutcome;

/// The end of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// Both sides ended it in order.
    Ok,
    /// The client reset it.
    ClientReset,
    /// The client's TLS stream ended without close_notify; the backend was reset.
    ClientTruncated,
    /// The client's connection or stream failed otherwise, for instance by a record that cannot be decrypted.
    ClientError,
    /// The backend reset it.
    BackendReset,
    /// The backend's connection failed otherwise.
    BackendError,
    /// No byte either way for `idleTimeout`.
    IdleTimeout,
    /// The drain's end, or a second SIGTERM, ended it.
    Drained,
    /// The backend refused the connection.
    BackendRefused,
    /// The backend did not answer within `connectTimeout`.
    BackendTimedOut,
    /// No route to the backend.
    BackendUnreachable,
    /// Every local port towards the backend is in use.
    NoLocalPort,
    /// The limit of open files is reached.
    NoDescriptors,
    /// The kernel has no memory for another socket.
    NoMemory,
    /// A firewall or sandbox forbids the connection to the backend.
    BackendNotPermitted,
    /// No backend is healthy.
    NoneHealthy,
    /// The connection to the backend failed otherwise.
    BackendFailed,
    /// The TLS handshake failed; the reason is counted with the handshakes.
    HandshakeFailed,
    /// A fault of this program ended the connection's task.
    Panicked,
}

impl Outcome {
    /// Every outcome, in the order of its discriminant.
    pub(crate) const ALL: [Self; 19] = [
        Self::Ok,
        Self::ClientReset,
        Self::ClientTruncated,
        Self::ClientError,
        Self::BackendReset,
        Self::BackendError,
        Self::IdleTimeout,
        Self::Drained,
        Self::BackendRefused,
        Self::BackendTimedOut,
        Self::BackendUnreachable,
        Self::NoLocalPort,
        Self::NoDescriptors,
        Self::NoMemory,
        Self::BackendNotPermitted,
        Self::NoneHealthy,
        Self::BackendFailed,
        Self::HandshakeFailed,
        Self::Panicked,
    ];

    /// The label's value.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientReset => "client_reset",
            Self::ClientTruncated => "client_truncated",
            Self::ClientError => "client_error",
            Self::BackendReset => "backend_reset",
            Self::BackendError => "backend_error",
            Self::IdleTimeout => "idle_timeout",
            Self::Drained => "drained",
            Self::BackendRefused => "backend_refused",
            Self::BackendTimedOut => "backend_timed_out",
            Self::BackendUnreachable => "backend_unreachable",
            Self::NoLocalPort => "no_local_port",
            Self::NoDescriptors => "no_descriptors",
            Self::NoMemory => "no_memory",
            Self::BackendNotPermitted => "backend_not_permitted",
            Self::NoneHealthy => "none_healthy",
            Self::BackendFailed => "backend_failed",
            Self::HandshakeFailed => "handshake_failed",
            Self::Panicked => "panicked",
        }
    }
}

impl From<&RelayOutcome> for Outcome {
    fn from(outcome: &RelayOutcome) -> Self {
        match outcome {
            RelayOutcome::Ok => Self::Ok,
            RelayOutcome::ClientReset => Self::ClientReset,
            RelayOutcome::ClientTruncated => Self::ClientTruncated,
            RelayOutcome::ClientError(_) => Self::ClientError,
            RelayOutcome::BackendReset => Self::BackendReset,
            RelayOutcome::BackendError(_) => Self::BackendError,
            RelayOutcome::IdleTimeout => Self::IdleTimeout,
            RelayOutcome::Stopped => Self::Drained,
        }
    }
}

impl From<&DialError> for Outcome {
    fn from(error: &DialError) -> Self {
        match error {
            DialError::Refused { .. } => Self::BackendRefused,
            DialError::TimedOut { .. } => Self::BackendTimedOut,
            DialError::Unreachable { .. } => Self::BackendUnreachable,
            DialError::NoLocalPort { .. } => Self::NoLocalPort,
            DialError::NoDescriptors { .. } => Self::NoDescriptors,
            DialError::NoMemory { .. } => Self::NoMemory,
            DialError::NotPermitted { .. } => Self::BackendNotPermitted,
            DialError::NoneHealthy { .. } => Self::NoneHealthy,
            DialError::Failed { .. } => Self::BackendFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn all_lists_every_outcome_at_its_place_and_labels_differ() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
        let labels: HashSet<_> = Outcome::ALL.into_iter().map(Outcome::label).collect();
        assert_eq!(labels.len(), Outcome::ALL.len());
    }
}
