//! The verifier of client certificates, from the tenant's CA bundles.
//! Knows chains and validity only; who is allowed beyond that is not decided here.

use std::path::PathBuf;
use std::sync::Arc;

use config::ClientValidation;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::{CertificateError, read_certificates};

/// `None` where clients are not asked for a certificate.
pub(crate) fn client_certificate_verifier(
    validation: &ClientValidation,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, CertificateError> {
    let (bundles, required) = match validation {
        ClientValidation::None => return Ok(None),
        ClientValidation::Optional { ca } => (ca, false),
        ClientValidation::Required { ca } => (ca, true),
    };
    let roots = Arc::new(read_roots(bundles)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    // The builder refuses an empty root store and unusable revocation lists; the first is refused above, by file.
    let verifier = builder.build().map_err(|error| CertificateError::UnusableCa {
        path: bundles.first().cloned().unwrap_or_default(),
        number: 1,
        reason: error.to_string(),
    })?;
    Ok(Some(verifier))
}

fn read_roots(bundles: &[PathBuf]) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    for path in bundles {
        let certificates = read_certificates(path)?;
        if certificates.is_empty() {
            return Err(CertificateError::NoCa { path: path.clone() });
        }
        for (index, certificate) in certificates.into_iter().enumerate() {
            roots.add(certificate).map_err(|error| CertificateError::UnusableCa {
                path: path.clone(),
                number: index + 1,
                reason: error.to_string(),
            })?;
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::test_pki::Authority;

    fn verifier(bundle: &str) -> Result<Option<Arc<dyn ClientCertVerifier>>, CertificateError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.crt");
        fs::write(&path, bundle).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        client_certificate_verifier(&ClientValidation::Required { ca: vec![path] }, &provider)
    }

    #[test]
    fn a_bundle_of_several_cas_is_taken_whole() {
        let bundle = format!("{}{}", Authority::new("one").ca_pem(), Authority::new("two").ca_pem());
        let verifier = verifier(&bundle).unwrap().unwrap();
        assert!(verifier.client_auth_mandatory());
        assert_eq!(verifier.root_hint_subjects().len(), 2);
    }

    #[test]
    fn an_empty_bundle_and_a_broken_certificate_are_named() {
        assert!(matches!(verifier("").unwrap_err(), CertificateError::NoCa { .. }));
        let good = Authority::new("one").ca_pem();
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = verifier(&format!("{good}{bad}")).unwrap_err();
        assert!(matches!(error, CertificateError::UnusableCa { number: 2, .. }), "{error}");
    }
}
