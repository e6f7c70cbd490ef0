//! Why TLS with a backend failed: reasons are a closed set, because they are metric labels; the words are for people.

use std::fmt;
use std::io;

use connection::label_set;
use rustls::{AlertDescription, CertificateError, Error as TlsError, PeerIncompatible};

use crate::certificates::CertificateLabel;

label_set! {
    /// Label `reason` of `sni_terminator_backend_handshakes_total`.
    pub(crate) enum BackendReason {
        /// The handshake was not complete within the connection's share of `connectTimeout`.
        Timeout = "timeout",
        /// The backend closed or reset the connection during the handshake.
        Closed = "backend_closed",
        /// The backend ended the handshake with an alert, for instance because it wants another client certificate.
        Alert = "backend_alert",
        /// Its certificate's issuer is not among the CAs of `backendTls.ca`.
        UnknownCa = "unknown_ca",
        /// Its certificate does not carry the name, or the address, that it was asked for.
        WrongName = "wrong_name",
        /// Its certificate is expired or not yet valid.
        Expired = "expired",
        /// Neither its certificate nor its key is among `backendTls.pins`.
        PinMismatch = "pin_mismatch",
        /// Its certificate, or the proof of its key, is not valid for another reason.
        CertificateInvalid = "certificate_invalid",
        /// No protocol version in common.
        ProtocolVersion = "protocol_version",
        /// No cipher suite, group or signature scheme in common.
        NoCommonParameters = "no_common_parameters",
        /// It did not agree to the protocol that the client speaks.
        NoApplicationProtocol = "no_application_protocol",
        /// It broke the protocol, or speaks something else than TLS.
        Misbehaved = "backend_misbehaved",
        /// The terminator's own fault.
        Internal = "internal",
    }
}

/// A handshake with a backend that failed.
#[derive(Debug)]
pub(crate) struct BackendTlsFailure {
    /// The label.
    pub(crate) reason: BackendReason,
    /// The reason in words.
    pub(crate) words: String,
    /// The certificate that was refused.
    pub(crate) refused: Option<CertificateLabel>,
}

impl fmt::Display for BackendTlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.label(), self.words)
    }
}

impl From<io::Error> for BackendTlsFailure {
    fn from(error: io::Error) -> Self {
        Self { reason: BackendReason::of(&error), words: error.to_string(), refused: None }
    }
}

/// The backend's certificate is another one than those that were pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PinMismatch;

impl fmt::Display for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither the certificate nor its key is among backendTls.pins")
    }
}

impl std::error::Error for PinMismatch {}

impl BackendReason {
    /// The reason behind an error of the TLS stream. What rustls reports arrives wrapped; all else is the socket's.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(error) => Self::of_tls(error),
            None => Self::Closed,
        }
    }

    fn of_tls(error: &TlsError) -> Self {
        match error {
            TlsError::AlertReceived(AlertDescription::NoApplicationProtocol) | TlsError::NoApplicationProtocol => {
                Self::NoApplicationProtocol
            }
            TlsError::AlertReceived(AlertDescription::ProtocolVersion) => Self::ProtocolVersion,
            TlsError::AlertReceived(AlertDescription::HandshakeFailure) => Self::NoCommonParameters,
            TlsError::AlertReceived(_) => Self::Alert,
            TlsError::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::ProtocolVersion,
            TlsError::PeerIncompatible(_) => Self::NoCommonParameters,
            TlsError::InvalidCertificate(error) => Self::of_certificate(error),
            TlsError::InvalidMessage(_)
            | TlsError::PeerSentOversizedRecord
            | TlsError::InappropriateMessage { .. }
            | TlsError::InappropriateHandshakeMessage { .. }
            | TlsError::DecryptError
            | TlsError::NoCertificatesPresented
            | TlsError::PeerMisbehaved(_) => Self::Misbehaved,
            _ => Self::Internal,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownCa,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Expired,
            CertificateError::Other(other) if other.0.is::<PinMismatch>() => Self::PinMismatch,
            _ => Self::CertificateInvalid,
        }
    }
}
