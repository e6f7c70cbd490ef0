//! Why a handshake failed: the one place that turns errors of rustls and of the socket into a reason.
//! The reasons are a closed set, because they are metric labels; the words of an error go to the audit line.

use std::io;

use connection::label_set;
use rustls::{CertificateError, Error as TlsError, PeerIncompatible};

label_set! {
    /// Label `reason` of `sni_terminator_handshakes_total` and of refused client certificates.
    pub(crate) enum Reason {
        /// The tenant has as many connections as it may (`limits.maxConnections`).
        MaxConnections = "max_connections",
        /// The tenant has begun as many handshakes as it may in a second (`limits.handshakeRate`).
        HandshakeRate = "handshake_rate",
        /// The hand-off's deadline had passed before the hello was read.
        DeadlinePassed = "deadline_passed",
        /// The handshake took longer than it may.
        Timeout = "timeout",
        /// The client closed or reset the connection before the handshake was complete.
        ClientClosed = "client_closed",
        /// The client ended the handshake with an alert, for instance because it does not trust the certificate.
        ClientAlert = "client_alert",
        /// A message that cannot be decoded.
        Malformed = "malformed",
        /// The hello's name is not this tenant's, or differs from what was routed: alert 112.
        UnrecognizedName = "unrecognized_name",
        /// No protocol version in common: alert 70.
        ProtocolVersion = "protocol_version",
        /// No cipher suite, group or signature scheme in common: alert 40.
        NoCommonParameters = "no_common_parameters",
        /// No ALPN protocol in common: alert 120.
        NoApplicationProtocol = "no_application_protocol",
        /// A client certificate is required and none was sent: alert 116.
        ClientCertificateMissing = "client_certificate_missing",
        /// The client certificate's issuer is not among the tenant's CAs: alert 48.
        ClientCertificateUnknownCa = "client_certificate_unknown_ca",
        /// The client certificate is expired or not yet valid: alert 45.
        ClientCertificateExpired = "client_certificate_expired",
        /// The client certificate is revoked: alert 44.
        ClientCertificateRevoked = "client_certificate_revoked",
        /// The client certificate is valid, and no rule of the tenant lets it in: alert 49.
        ClientCertificateNotAllowed = "client_certificate_not_allowed",
        /// The client certificate, or the proof of its key, is not valid for another reason.
        ClientCertificateInvalid = "client_certificate_invalid",
        /// The client broke the protocol in another way.
        ClientMisbehaved = "client_misbehaved",
        /// The terminator stopped before the handshake was complete.
        Drained = "drained",
        /// The terminator's own fault.
        Internal = "internal",
    }
}

impl Reason {
    /// Whether the client's certificate, or the lack of one, is what failed.
    pub(crate) fn is_client_certificate(self) -> bool {
        matches!(
            self,
            Self::ClientCertificateMissing
                | Self::ClientCertificateUnknownCa
                | Self::ClientCertificateExpired
                | Self::ClientCertificateRevoked
                | Self::ClientCertificateNotAllowed
                | Self::ClientCertificateInvalid
        )
    }

    /// The reason behind an error of the TLS stream. What rustls reports arrives wrapped; all else is the socket's.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(error) => Self::of_tls(error),
            None => Self::ClientClosed,
        }
    }

    fn of_tls(error: &TlsError) -> Self {
        match error {
            TlsError::AlertReceived(_) => Self::ClientAlert,
            TlsError::InvalidMessage(_) | TlsError::PeerSentOversizedRecord => Self::Malformed,
            TlsError::PeerIncompatible(incompatible) => Self::of_incompatible(incompatible),
            TlsError::NoApplicationProtocol => Self::NoApplicationProtocol,
            TlsError::NoCertificatesPresented => Self::ClientCertificateMissing,
            TlsError::InvalidCertificate(error) => Self::of_certificate(error),
            TlsError::InvalidEncryptedClientHello(_)
            | TlsError::InappropriateMessage { .. }
            | TlsError::InappropriateHandshakeMessage { .. }
            | TlsError::DecryptError
            | TlsError::PeerMisbehaved(_) => Self::ClientMisbehaved,
            _ => Self::Internal,
        }
    }

    fn of_incompatible(incompatible: &PeerIncompatible) -> Self {
        match incompatible {
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => Self::ProtocolVersion,
            _ => Self::NoCommonParameters,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer
            | CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::ClientCertificateUnknownCa,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::ClientCertificateExpired,
            CertificateError::Revoked => Self::ClientCertificateRevoked,
            CertificateError::ApplicationVerificationFailure => Self::ClientCertificateNotAllowed,
            _ => Self::ClientCertificateInvalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rustls::PeerMisbehaved;

    use super::*;

    #[test]
    fn labels_differ() {
        let labels: HashSet<_> = Reason::ALL.into_iter().map(Reason::label).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
    }

    #[test]
    fn a_lost_connection_is_not_a_tls_error() {
        assert_eq!(Reason::of(&io::ErrorKind::UnexpectedEof.into()), Reason::ClientClosed);
        assert_eq!(Reason::of(&io::ErrorKind::ConnectionReset.into()), Reason::ClientClosed);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, TlsError::from(PeerMisbehaved::MissingKeyShare));
        assert_eq!(Reason::of(&wrapped), Reason::ClientMisbehaved);
    }
}
