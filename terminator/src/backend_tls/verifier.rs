//! The checks of a backend's certificate: its CA, its name, its dates, its pins. Reads nothing, dials nothing.

use std::sync::Arc;

use config::Sha256 as Pin;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error as TlsError, OtherError, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use webpki::EndEntityCert;

use super::failure::PinMismatch;
use crate::certificates::{Leaf, refuse};

/// What a tenant trusts its backends by.
#[derive(Debug)]
pub(super) struct BackendVerifier {
    /// `None` where the pins alone decide.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Empty where the CAs alone decide.
    pins: Vec<Pin>,
    /// Whether a certificate that only the pins vouch for has to carry the name too.
    is_named: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl BackendVerifier {
    /// Trusts these CAs, pins or both. `is_named`: a name was configured, not only an address.
    pub(super) fn new(
        cas: &[CertificateDer<'static>],
        pins: &[Pin],
        is_named: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for ca in cas {
            roots.add(ca.clone())?;
        }
        let authorities = if roots.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            Some(builder.build().map_err(|error| TlsError::General(error.to_string()))?)
        };
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { authorities, pins: pins.to_vec(), is_named, algorithms })
    }

    /// Dates and name, for a certificate that nobody but the pins vouches for. Its key is proven by the handshake.
    fn verify_alone(&self, leaf: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), TlsError> {
        let dates = Leaf::parse(leaf).map_err(|_| TlsError::InvalidCertificate(CertificateError::BadEncoding))?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < dates.not_before {
            return Err(TlsError::InvalidCertificate(CertificateError::NotValidYet));
        }
        if now > dates.not_after {
            return Err(TlsError::InvalidCertificate(CertificateError::Expired));
        }
        if self.is_named { verify_server_name(&ParsedCertificate::try_from(leaf)?, name) } else { Ok(()) }
    }

    fn is_pinned(&self, leaf: &CertificateDer<'_>) -> bool {
        let certificate: [u8; 32] = Sha256::digest(leaf).into();
        let key = EndEntityCert::try_from(leaf).ok().map(|leaf| leaf.subject_public_key_info());
        let key: Option<[u8; 32]> = key.map(|key| Sha256::digest(&key).into());
        self.pins.iter().any(|pin| pin.0 == certificate || Some(pin.0) == key)
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), TlsError> {
        match &self.authorities {
            Some(authorities) => match authorities.verify_server_cert(leaf, intermediates, name, ocsp, now) {
                // A CA of the right name with another key, as an authority that was made anew has.
                Err(TlsError::InvalidCertificate(CertificateError::BadSignature)) => {
                    return Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer));
                }
                verdict => verdict.map(drop)?,
            },
            None => self.verify_alone(leaf, name, now)?,
        }
        if self.pins.is_empty() || self.is_pinned(leaf) {
            return Ok(());
        }
        Err(TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(PinMismatch)))))
    }
}

impl ServerCertVerifier for BackendVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verdict = self.verify(leaf, intermediates, name, ocsp, now);
        if verdict.is_err() {
            refuse(leaf);
        }
        verdict.map(|()| ServerCertVerified::assertion())
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

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
