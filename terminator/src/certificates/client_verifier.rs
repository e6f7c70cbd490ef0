//! The checks of a client certificate during the handshake: webpki's, the depth, the tenant's rules; with the errors that
//! clients and operators expect.

use std::cell::Cell;
use std::sync::Arc;

use config::{ClientRule, ClientTrust};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::client_rules::{NotAllowed, admit};
use super::refused::refuse;

/// One webpki verifier per CA of the tenant, and what is decided beyond them.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    authorities: Vec<Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    subjects: Vec<DistinguishedName>,
    required: bool,
    /// The CAs again, for the depth.
    anchors: Vec<TrustAnchor<'static>>,
    max_intermediates: Option<u8>,
    rules: Vec<ClientRule>,
}

impl ClientVerifier {
    /// Trusts the authorities, which have these anchors, as the tenant's configuration says.
    pub(super) fn new(
        authorities: Vec<Arc<dyn ClientCertVerifier>>,
        anchors: Vec<TrustAnchor<'static>>,
        provider: &CryptoProvider,
        required: bool,
        trust: &ClientTrust,
    ) -> Self {
        let mut subjects: Vec<DistinguishedName> = Vec::new();
        for subject in authorities.iter().flat_map(|authority| authority.root_hint_subjects()) {
            if !subjects.iter().any(|known| known.as_ref() == subject.as_ref()) {
                subjects.push(subject.clone());
            }
        }
        Self {
            authorities,
            algorithms: provider.signature_verification_algorithms,
            subjects,
            required,
            anchors,
            max_intermediates: trust.max_intermediates,
            rules: trust.allow.clone(),
        }
    }
}

impl ClientVerifier {
    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let short;
        let intermediates = match self.max_intermediates {
            None => intermediates,
            Some(max) => {
                short = self.short_path(leaf, intermediates, now, max)?;
                short.as_slice()
            }
        };
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

    /// The intermediates of a path to a CA that is not too long. Where there is none, all of them if no path is there at
    /// all, so that the reason is found as without a bound.
    fn short_path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        max: u8,
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let owned =
            |certificates: &[CertificateDer<'_>]| certificates.iter().map(|one| one.clone().into_owned()).collect();
        let Ok(end_entity) = EndEntityCert::try_from(leaf) else { return Ok(owned(intermediates)) };
        let too_long = Cell::new(false);
        let is_short = |path: &VerifiedPath<'_>| {
            if path.intermediate_certificates().count() <= usize::from(max) {
                return Ok(());
            }
            too_long.set(true);
            Err(webpki::Error::MaximumPathDepthExceeded)
        };
        let usage = KeyUsage::client_auth();
        let algorithms = self.algorithms.all;
        match end_entity.verify_for_usage(algorithms, &self.anchors, intermediates, now, usage, None, Some(&is_short)) {
            Ok(path) => Ok(path.intermediate_certificates().map(|one| one.der().into_owned()).collect()),
            Err(_) if too_long.get() => Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)),
            Err(_) => Ok(owned(intermediates)),
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let verdict = self.verify_chain(leaf, intermediates, now).and_then(|verified| match admit(&self.rules, leaf) {
            Ok(_) => Ok(verified),
            // The alert is access_denied (49).
            Err(NotAllowed) => Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        });
        if verdict.is_err() {
            refuse(leaf);
        }
        verdict
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
