//! The closed sets of label values that counters, access log and documentation share: how a hello ended and how a
//! connection ended. Never decides what a client is told.

use ::connection::DialError;
use ::connection::relay::RelayOutcome;

use crate::ebpf::cut_through::FlowOutcome;

/// How the peek step ended: label `outcome` of `sni_router_client_hello_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum HelloOutcome {
    /// A whole, well-formed ClientHello.
    Ok,
    /// A TLS handshake that breaks RFC 8446, RFC 5246 or RFC 6066.
    Malformed,
    /// Something else than TLS.
    NotTls,
    /// Plaintext HTTP.
    PlainHttp,
    /// No whole hello within `clientHello.timeout`.
    TooSlow,
    /// More than `clientHello.maxBytes`.
    TooLarge,
    /// The client closed its side before the hello was whole.
    ClientClosed,
    /// The client reset the connection before the hello was whole.
    ClientReset,
    /// A trusted sender's PROXY header is missing or wrong.
    ProxyHeader,
    /// A drain ended the wait.
    Drained,
}

/// How a connection ended: label `outcome` of `sni_router_connections_total` and field `outcome` of the access log.
/// Terminated connections end here as `ok` when the terminator has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum ConnectionOutcome {
    /// Both sides ended it in order, or the terminator took it.
    Ok,
    /// The client reset it.
    ClientReset,
    /// The backend reset it.
    BackendReset,
    /// Any other failure of the client's socket.
    ClientError,
    /// Any other failure of the backend's socket.
    BackendError,
    /// No byte either way for the tenant's `idleTimeout`.
    IdleTimeout,
    /// The drain's deadline ended it.
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
    /// A local rule forbids the way to the backend.
    BackendNotPermitted,
    /// No backend is healthy.
    NoneHealthy,
    /// The backend could not be connected to for any other reason.
    BackendFailed,
    /// The tenant has as many connections as it may (`limits.maxConnections`).
    MaxConnections,
    /// The tenant has had as many new connections as it may in a second (`limits.connectionRate`).
    ConnectionRate,
    /// The tenant's terminator was not there, or full, until the deadline.
    TerminatorUnavailable,
    /// No tenant claims the name.
    UnknownName,
    /// The hello has no name.
    NoServerName,
    /// The name in the hello is no host name (RFC 6066 section 3).
    InvalidName,
    /// The listener or the tenant denies this client.
    ClientDenied,
    /// See [`HelloOutcome::Malformed`].
    Malformed,
    /// See [`HelloOutcome::NotTls`].
    NotTls,
    /// See [`HelloOutcome::PlainHttp`].
    PlainHttp,
    /// See [`HelloOutcome::TooSlow`].
    TooSlow,
    /// See [`HelloOutcome::TooLarge`].
    TooLarge,
    /// See [`HelloOutcome::ProxyHeader`].
    ProxyHeader,
    /// The client left before it said where it wanted to go.
    ClientClosed,
}

/// What happens to a connection's TLS: label `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It stays end to end.
    Passthrough,
    /// It ends in the tenant's terminator.
    Terminate,
    /// The connection goes nowhere.
    Reject,
}

impl HelloOutcome {
    /// Every value, in the order of their discriminants.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::Malformed,
        Self::NotTls,
        Self::PlainHttp,
        Self::TooSlow,
        Self::TooLarge,
        Self::ClientClosed,
        Self::ClientReset,
        Self::ProxyHeader,
        Self::Drained,
    ];

    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Malformed => "malformed",
            Self::NotTls => "not_tls",
            Self::PlainHttp => "plain_http",
            Self::TooSlow => "too_slow",
            Self::TooLarge => "too_large",
            Self::ClientClosed => "client_closed",
            Self::ClientReset => "client_reset",
            Self::ProxyHeader => "proxy_header",
            Self::Drained => "drained",
        }
    }
}

impl ConnectionOutcome {
    /// Every value, in the order of their discriminants.
    pub const ALL: [Self; 30] = [
        Self::Ok,
        Self::ClientReset,
        Self::BackendReset,
        Self::ClientError,
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
        Self::MaxConnections,
        Self::ConnectionRate,
        Self::TerminatorUnavailable,
        Self::UnknownName,
        Self::NoServerName,
        Self::InvalidName,
        Self::ClientDenied,
        Self::Malformed,
        Self::NotTls,
        Self::PlainHttp,
        Self::TooSlow,
        Self::TooLarge,
        Self::ProxyHeader,
        Self::ClientClosed,
    ];

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
            DialError::Failed { .. } => Self::BackendFailed,
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
            RelayOutcome::BackendError(_) => Self::BackendError,
        }
    }

    /// For a connection that the kernel carried.
    pub fn of_flow(outcome: FlowOutcome) -> Self {
        match outcome {
            FlowOutcome::Ok => Self::Ok,
            FlowOutcome::ClientReset => Self::ClientReset,
            FlowOutcome::BackendReset => Self::BackendReset,
            FlowOutcome::IdleTimeout => Self::IdleTimeout,
            FlowOutcome::BackendSilent => Self::BackendError,
        }
    }

    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::ClientError => "client_error",
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
            Self::MaxConnections => "max_connections",
            Self::ConnectionRate => "connection_rate",
            Self::TerminatorUnavailable => "terminator_unavailable",
            Self::UnknownName => "unknown_name",
            Self::NoServerName => "no_server_name",
            Self::InvalidName => "invalid_name",
            Self::ClientDenied => "client_denied",
            Self::Malformed => "malformed",
            Self::NotTls => "not_tls",
            Self::PlainHttp => "plain_http",
            Self::TooSlow => "too_slow",
            Self::TooLarge => "too_large",
            Self::ProxyHeader => "proxy_header",
            Self::ClientClosed => "client_closed",
        }
    }
}

impl Mode {
    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Passthrough => "passthrough",
            Self::Terminate => "terminate",
            Self::Reject => "reject",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_are_positions() {
        assert!(HelloOutcome::ALL.iter().enumerate().all(|(position, outcome)| position == *outcome as usize));
        assert!(ConnectionOutcome::ALL.iter().enumerate().all(|(position, outcome)| position == *outcome as usize));
    }

    #[test]
    fn labels_are_unique() {
        let mut labels = ConnectionOutcome::ALL.map(ConnectionOutcome::label);
        labels.sort_unstable();
        assert!(labels.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
