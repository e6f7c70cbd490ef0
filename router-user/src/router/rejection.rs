//! One place that turns each reason to refuse a connection into its outcome and into what the client is told.

use ::connection::Alert;
use client_hello::{Malformed, NameError, NotTls};

use super::outcome::ConnectionOutcome;
use crate::routing::Refusal;

/// What a rejected client is told before the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A fatal TLS alert.
    Alert(Alert),
    /// The same without waiting until it is read, for those of whom there may be many.
    AlertInPassing(Alert),
    /// A plain HTTP 400, so that a person sees what is wrong.
    PlainHttp400,
    /// Nothing: the peer does not speak TLS, or is gone.
    Silence,
}

/// A connection that ends before it has a tenant's backend: how it is counted and what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    /// How it is counted.
    pub(super) outcome: ConnectionOutcome,
    /// What the client is told.
    pub(super) answer: Answer,
}

impl Rejection {
    /// For a hello that is whole but asks for what nobody gives.
    pub(super) fn of_refusal(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownName => Self::alert(ConnectionOutcome::UnknownName, Alert::UnrecognizedName),
            Refusal::NoServerName => Self::alert(ConnectionOutcome::NoServerName, Alert::UnrecognizedName),
            Refusal::ClientDenied { .. } => Self::alert(ConnectionOutcome::ClientDenied, Alert::AccessDenied),
        }
    }

    /// For a hello that cannot be decoded. A name that is text but no DNS host name is a name that nobody has.
    pub(super) fn of_malformed(malformed: &Malformed) -> Self {
        match malformed {
            Malformed::ServerName(NameError::NotAscii | NameError::IpLiteral | NameError::NotHostname) => {
                Self::alert(ConnectionOutcome::InvalidName, Alert::UnrecognizedName)
            }
            Malformed::ServerName(_) => Self::alert(ConnectionOutcome::InvalidName, Alert::DecodeError),
            _ => Self::alert(ConnectionOutcome::Malformed, Alert::DecodeError),
        }
    }

    /// For a peer that does not speak TLS.
    pub(super) fn of_not_tls(kind: NotTls) -> Self {
        match kind {
            NotTls::Http => Self { outcome: ConnectionOutcome::PlainHttp, answer: Answer::PlainHttp400 },
            _ => Self { outcome: ConnectionOutcome::NotTls, answer: Answer::Silence },
        }
    }

    /// A rejection that a TLS client understands.
    pub(super) fn alert(outcome: ConnectionOutcome, alert: Alert) -> Self {
        Self { outcome, answer: Answer::Alert(alert) }
    }

    /// A rejection of a peer that is gone.
    pub(super) fn silent(outcome: ConnectionOutcome) -> Self {
        Self { outcome, answer: Answer::Silence }
    }
}
