//! The closed sets of label values that counters, access log and documentation share: how a hello ended, how a
//! connection ended, and which alert the client gets for it.

use ::connection::DialError;
use ::connection::relay::RelayOutcome;
use client_hello::{Malformed, NameError, NotTls};

use crate::routing::Refusal;

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
    /// No route to the backend, or a local rule forbids it.
    BackendUnreachable,
    /// The router had no port, descriptor or memory for the backend connection.
    NoResources,
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

/// What a rejected client is told before the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A fatal TLS alert.
    Alert(Alert),
    /// A plain HTTP 400, so that a person sees what is wrong.
    PlainHttp400,
    /// Nothing: the peer does not speak TLS, or is gone.
    Silence,
}

/// The TLS alerts that the router sends (RFC 8446 section 6, RFC 6066 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// The tenant or the listener does not admit the client.
    AccessDenied = 49,
    /// A hello that cannot be decoded, is too long, or did not come in time.
    DecodeError = 50,
    /// The backend or the terminator cannot be reached.
    InternalError = 80,
    /// Nobody has this name.
    UnrecognizedName = 112,
}

/// A connection that ends before it has a tenant's backend: how it is counted and what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// How it is counted.
    pub outcome: ConnectionOutcome,
    /// What the client is told.
    pub answer: Answer,
}

impl HelloOutcome {
    /// Every value, in the order of their discriminants.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Malformed,
        Self::NotTls,
        Self::PlainHttp,
        Self::TooSlow,
        Self::TooLarge,
        Self::ClientClosed,
        Self::ClientReset,
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
            Self::Drained => "drained",
        }
    }
}

impl ConnectionOutcome {
    /// Every value, in the order of their discriminants.
    pub const ALL: [Self; 22] = [
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
        Self::NoResources,
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
        Self::ClientClosed,
    ];

    /// For a backend that could not be connected to.
    pub fn of_dial(error: &DialError) -> Self {
        match error {
            DialError::Refused { .. } => Self::BackendRefused,
            DialError::TimedOut { .. } => Self::BackendTimedOut,
            DialError::Unreachable { .. } | DialError::NotPermitted { .. } => Self::BackendUnreachable,
            DialError::NoLocalPort { .. } | DialError::NoDescriptors { .. } | DialError::NoMemory { .. } => {
                Self::NoResources
            }
            DialError::Failed { .. } => Self::BackendError,
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
            Self::NoResources => "no_resources",
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

impl Rejection {
    /// For a hello that is whole but asks for what nobody gives.
    pub fn of_refusal(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownName => Self::alert(ConnectionOutcome::UnknownName, Alert::UnrecognizedName),
            Refusal::NoServerName => Self::alert(ConnectionOutcome::NoServerName, Alert::UnrecognizedName),
            Refusal::ClientDenied { .. } => Self::alert(ConnectionOutcome::ClientDenied, Alert::AccessDenied),
        }
    }

    /// For a hello that cannot be decoded. A name that is text but no DNS host name is a name that nobody has.
    pub fn of_malformed(malformed: &Malformed) -> Self {
        match malformed {
            Malformed::ServerName(NameError::NotAscii | NameError::IpLiteral | NameError::NotHostname) => {
                Self::alert(ConnectionOutcome::InvalidName, Alert::UnrecognizedName)
            }
            Malformed::ServerName(_) => Self::alert(ConnectionOutcome::InvalidName, Alert::DecodeError),
            _ => Self::alert(ConnectionOutcome::Malformed, Alert::DecodeError),
        }
    }

    /// For a peer that does not speak TLS.
    pub fn of_not_tls(kind: NotTls) -> Self {
        match kind {
            NotTls::Http => Self { outcome: ConnectionOutcome::PlainHttp, answer: Answer::PlainHttp400 },
            _ => Self { outcome: ConnectionOutcome::NotTls, answer: Answer::Silence },
        }
    }

    /// A rejection that a TLS client understands.
    pub fn alert(outcome: ConnectionOutcome, alert: Alert) -> Self {
        Self { outcome, answer: Answer::Alert(alert) }
    }

    /// A rejection of a peer that is gone.
    pub fn silent(outcome: ConnectionOutcome) -> Self {
        Self { outcome, answer: Answer::Silence }
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
