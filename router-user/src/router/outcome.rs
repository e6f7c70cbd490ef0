//! The closed sets of label values that counters, access log and documentation share: how a hello ended and how a
//! connection ended. Never decides what a client is told.

use std::io;

use ::connection::relay::RelayOutcome;
use ::connection::{DialError, label_set};
use nix::errno::Errno;

use crate::ebpf::cut_through::FlowOutcome;

label_set! {
    /// How the peek step ended: label `outcome` of `sni_router_client_hello_total`.
    pub enum HelloOutcome {
        /// A whole, well-formed ClientHello.
        Ok = "ok",
        /// A TLS handshake that breaks RFC 8446, RFC 5246 or RFC 6066.
        Malformed = "malformed",
        /// Something else than TLS.
        NotTls = "not_tls",
        /// Plaintext HTTP.
        PlainHttp = "plain_http",
        /// No whole hello within `clientHello.timeout`.
        TooSlow = "too_slow",
        /// More than `clientHello.maxBytes`.
        TooLarge = "too_large",
        /// The client closed its side before the hello was whole.
        ClientClosed = "client_closed",
        /// The client reset the connection before the hello was whole.
        ClientReset = "client_reset",
        /// A trusted sender's PROXY header is missing or wrong.
        ProxyHeader = "proxy_header",
        /// A drain ended the wait.
        Drained = "drained",
    }
}

label_set! {
    /// How a connection ended: label `outcome` of `sni_router_connections_total` and field `outcome` of the access log.
    /// Terminated connections end here as `ok` when the terminator has them.
    pub enum ConnectionOutcome {
        /// Both sides ended it in order, or the terminator took it.
        Ok = "ok",
        /// The client reset it.
        ClientReset = "client_reset",
        /// The backend reset it.
        BackendReset = "backend_reset",
        /// Any other failure of the client's socket.
        ClientError = "client_error",
        /// Any other failure of the backend's socket.
        BackendError = "backend_error",
        /// No byte either way for the tenant's `idleTimeout`.
        IdleTimeout = "idle_timeout",
        /// The drain's deadline ended it.
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
        /// A local rule forbids the way to the backend.
        BackendNotPermitted = "backend_not_permitted",
        /// No backend is healthy.
        NoneHealthy = "none_healthy",
        /// The backends are names without an address.
        BackendNoAddress = "backend_no_address",
        /// The backend could not be connected to from the client's address (`clientAddress: Transparent`).
        ClientAddressFailed = "client_address_failed",
        /// The client's address is of another family than every backend's (`clientAddress: Transparent`).
        ClientAddressFamily = "client_address_family",
        /// The backend could not be connected to for any other reason.
        BackendFailed = "backend_failed",
        /// The tenant has as many connections as it may (`limits.maxConnections`).
        MaxConnections = "max_connections",
        /// The tenant has had as many new connections as it may in a second (`limits.connectionRate`).
        ConnectionRate = "connection_rate",
        /// The source has as many connections as it may (`perSource.maxConnections`).
        SourceMaxConnections = "source_max_connections",
        /// The source has had as many new connections as it may in a second (`perSource.connectionRate`).
        SourceConnectionRate = "source_connection_rate",
        /// The tenant's terminator was not there, or full, until the deadline.
        TerminatorUnavailable = "terminator_unavailable",
        /// No tenant claims the name.
        UnknownName = "unknown_name",
        /// The hello has no name.
        NoServerName = "no_server_name",
        /// The name in the hello is no host name (RFC 6066 section 3).
        InvalidName = "invalid_name",
        /// The listener or the tenant denies this client.
        ClientDenied = "client_denied",
        /// See [`HelloOutcome::Malformed`].
        Malformed = "malformed",
        /// See [`HelloOutcome::NotTls`].
        NotTls = "not_tls",
        /// See [`HelloOutcome::PlainHttp`].
        PlainHttp = "plain_http",
        /// See [`HelloOutcome::TooSlow`].
        TooSlow = "too_slow",
        /// See [`HelloOutcome::TooLarge`].
        TooLarge = "too_large",
        /// See [`HelloOutcome::ProxyHeader`].
        ProxyHeader = "proxy_header",
        /// The client left before it said where it wanted to go.
        ClientClosed = "client_closed",
    }
}

label_set! {
    /// What accept(2) lacks: label `reason` of `sni_router_accept_errors_total`.
    pub enum Shortage {
        /// The process or the system has as many open files as it may.
        NoDescriptors = "no_descriptors",
        /// The kernel has no memory for another socket.
        NoMemory = "no_memory",
    }
}

impl Shortage {
    /// For a failed accept(2); `None` is the client's own doing.
    pub fn of_accept(error: &io::Error) -> Option<Self> {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMFILE | Errno::ENFILE) => Some(Self::NoDescriptors),
            Some(Errno::ENOBUFS | Errno::ENOMEM) => Some(Self::NoMemory),
            _ => None,
        }
    }
}

label_set! {
    /// What happens to a connection's TLS: label `mode`.
    pub enum Mode {
        /// It stays end to end.
        Passthrough = "passthrough",
        /// It ends in the tenant's terminator.
        Terminate = "terminate",
        /// The connection goes nowhere.
        Reject = "reject",
    }
}

impl ConnectionOutcome {
    /// For a backend that could not be connected to.
    pub fn of_dial(error: &DialError) -> Self {
        match error {
            DialError::Refused { .. } => Self::BackendRefused,
            DialError::TimedOut { .. } => Self::BackendTimedOut,
            DialError::Unreachable { .. } => Self::BackendUnreachable,
            DialError::NoLocalPort { .. } => Self::NoLocalPort,
            DialError::NoDescriptors { .. } => Self::NoDescriptors,
            DialError::NoMemory { .. } => Self::NoMemory,
            DialError::NotPermitted { .. } => Self::BackendNotPermitted,
            DialError::NoneHealthy { .. } => Self::NoneHealthy,
            DialError::NoAddress { .. } => Self::BackendNoAddress,
            DialError::AsClient { .. } => Self::ClientAddressFailed,
            DialError::OtherFamily { .. } => Self::ClientAddressFamily,
            // The router itself speaks no TLS.
            DialError::Failed { .. } | DialError::Tls { .. } => Self::BackendFailed,
        }
    }

    /// For a relay that is over.
    pub fn of_relay(outcome: &RelayOutcome) -> Self {
        match outcome {
            RelayOutcome::Ok => Self::Ok,
            RelayOutcome::ClientReset => Self::ClientReset,
            RelayOutcome::BackendReset => Self::BackendReset,
            RelayOutcome::IdleTimeout => Self::IdleTimeout,
            RelayOutcome::Stopped => Self::Drained,
            RelayOutcome::ClientError(_) | RelayOutcome::ClientTruncated => Self::ClientError,
            RelayOutcome::BackendError(_) | RelayOutcome::BackendTruncated => Self::BackendError,
        }
    }

    /// For a connection that the kernel carried.
    pub fn of_flow(outcome: FlowOutcome) -> Self {
        match outcome {
            FlowOutcome::Ok => Self::Ok,
            FlowOutcome::ClientReset => Self::ClientReset,
            FlowOutcome::BackendReset => Self::BackendReset,
            FlowOutcome::IdleTimeout => Self::IdleTimeout,
            FlowOutcome::Drained => Self::Drained,
            FlowOutcome::BackendSilent => Self::BackendError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique() {
        let mut labels = ConnectionOutcome::ALL.map(ConnectionOutcome::label);
        labels.sort_unstable();
        assert!(labels.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
