//! The checks of a client certificate during the handshake: webpki's, with the errors that clients and operators expect.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme};

/// One webpki verifier per CA of the tenant, and what is decided beyond them.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    authorities: Vec<Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    subjects: Vec<DistinguishedName>,
    required: bool,
}

impl ClientVerifier {
    /// Trusts these.
    pub(super) fn new(
        authorities: Vec<Arc<dyn ClientCertVerifier>>,
        provider: &CryptoProvider,
        required: bool,
    ) -> Self {
        let mut subjects: Vec<DistinguishedName> = Vec::new();
        for subject in authorities.iter().flat_map(|authority| authority.root_hint_subjects()) {
            if !subjects.iter().any(|known| known.as_ref() == subject.as_ref()) {
                subjects.push(subject.clone());
            }
        }
        Self { authorities, algorithms: provider.signature_verification_algorithms, subjects, required }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let mut told = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        for authority in &self.authorities {
            match authority.verify_client_cert(leaf, intermediates, now) {
                Ok(verified) => return Ok(verified),
                Err(error) if is_not_the_issuer(&error) => {}
                // Expired, revoked: this authority knows it, so this is the reason.
                Err(error) => told = error,
            }
        }
        Err(told)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }
}

/// Another issuer; or one of the same name with another key, as an authority that was made anew has.
fn is_not_the_issuer(error: &TlsError) -> bool {
    matches!(error, TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature))
}
