//! How a handed-over connection ended: label `outcome` of connection counters and field of the access log.
//! A closed set; the one place that maps the ends of relays and dials to it.

use connection::relay::RelayOutcome;
use connection::{DialError, label_set};

use crate::backend_tls::BackendReason;

label_set! {
    /// The end of one connection.
    pub(crate) enum Outcome {
        /// Both sides ended it in order.
        Ok = "ok",
        /// The client reset it.
        ClientReset = "client_reset",
        /// The client's TLS stream ended without close_notify; the backend was reset.
        ClientTruncated = "client_truncated",
        /// The client's connection or stream failed otherwise, for instance by a record that cannot be decrypted.
        ClientError = "client_error",
        /// The backend's TLS stream ended without close_notify; the client's did too.
        BackendTruncated = "backend_truncated",
        /// The backend reset it.
        BackendReset = "backend_reset",
        /// The backend's connection failed otherwise.
        BackendError = "backend_error",
        /// No byte either way for `idleTimeout`.
        IdleTimeout = "idle_timeout",
        /// The drain's end, or a second SIGTERM, ended it.
        Drained = "drained",
        /// The backend refused the connection.
        BackendRefused = "backend_refused",
        /// The backend did not answer within `connectTimeout`.
        BackendTimedOut = "backend_timed_out",
        /// No route to the backend.
        BackendUnreachable = "backend_unreachable",
        /// Every local port towards the backend is in use.
        NoLocalPort = "no_local_port",
        /// The limit of open files is reached.
        NoDescriptors = "no_descriptors",
        /// The kernel has no memory for another socket.
        NoMemory = "no_memory",
        /// A firewall or sandbox forbids the connection to the backend.
        BackendNotPermitted = "backend_not_permitted",
        /// The backend could not be connected to from the client's address (`clientAddress: Transparent`).
        ClientAddressFailed = "client_address_failed",
        /// The client's address is of another family than every backend's (`clientAddress: Transparent`).
        ClientAddressFamily = "client_address_family",
        /// No backend is healthy.
        NoneHealthy = "none_healthy",
        /// The backends are names without an address.
        BackendNoAddress = "backend_no_address",
        /// TLS with the backend failed, or the backend's alert ended it; the reason is counted with the handshakes.
        BackendTlsFailed = "backend_tls_failed",
        /// The connection to the backend failed otherwise.
        BackendFailed = "backend_failed",
        /// The hand-off did not arrive whole; the reason is in the log.
        HandoffLost = "handoff_lost",
        /// The TLS handshake failed; the reason is counted with the handshakes.
        HandshakeFailed = "handshake_failed",
        /// A fault of this program ended the connection's task.
        Panicked = "panicked",
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
            RelayOutcome::BackendTruncated => Self::BackendTruncated,
            // Under TLS 1.3 a backend that refuses our certificate says so after the handshake.
            RelayOutcome::BackendError(error) if BackendReason::of(error) == BackendReason::Alert => {
                Self::BackendTlsFailed
            }
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
            DialError::Tls { .. } => Self::BackendTlsFailed,
            DialError::NoneHealthy { .. } => Self::NoneHealthy,
            DialError::NoAddress { .. } => Self::BackendNoAddress,
            DialError::AsClient { .. } => Self::ClientAddressFailed,
            DialError::OtherFamily { .. } => Self::ClientAddressFamily,
            DialError::Failed { .. } => Self::BackendFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_differ() {
        let labels: HashSet<_> = Outcome::ALL.into_iter().map(Outcome::label).collect();
        assert_eq!(labels.len(), Outcome::ALL.len());
    }
}
