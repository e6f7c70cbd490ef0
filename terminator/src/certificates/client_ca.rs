//! Whom client certificates must come from, and which are revoked: the tenant's CA bundles and revocation lists.
//! Knows chains and validity only; who is allowed beyond that is not decided here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{ClientTrust, ClientValidation};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::extensions::ParsedExtension;
use x509_parser::{parse_x509_certificate, parse_x509_crl};

use super::client_verifier::ClientVerifier;
use super::{CertificateError, Ending, EndingKind, pem_file, read_certificates};

/// The content of all bundles and lists, each element known to be usable by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientAnchors {
    /// In the order of the files.
    cas: Vec<CertificateDer<'static>>,
    crls: Vec<CertificateRevocationListDer<'static>>,
    first_bundle: PathBuf,
    /// When each of them ends.
    endings: Vec<Ending>,
}

impl ClientAnchors {
    /// Reads all files.
    pub(crate) fn read(trust: &ClientTrust) -> Result<Self, CertificateError> {
        let (mut cas, mut crls, mut endings) = (Vec::new(), Vec::new(), Vec::new());
        for path in &trust.ca {
            let bundle = read_cas(path)?;
            endings.extend(Ending::cas(EndingKind::ClientCa, path, &bundle));
            cas.extend(bundle);
        }
        for path in &trust.crl {
            let lists = read_crls(path)?;
            endings.extend(Ending::revocation_lists(path, &lists));
            crls.extend(lists);
        }
        Ok(Self { cas, crls, first_bundle: trust.ca.first().cloned().unwrap_or_default(), endings })
    }

    /// When each CA and each list ends.
    pub(crate) fn endings(&self) -> &[Ending] {
        &self.endings
    }

    /// How many CAs are trusted.
    pub(crate) fn authorities(&self) -> usize {
        self.cas.len()
    }

    /// How many revocation lists are in force.
    pub(crate) fn revocation_lists(&self) -> usize {
        self.crls.len()
    }

    /// What checks client certificates; `None` where clients are not asked for one.
    pub(crate) fn verifier(
        &self,
        validation: &ClientValidation,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, CertificateError> {
        let (trust, required) = match validation {
            ClientValidation::None => return Ok(None),
            ClientValidation::Optional(trust) => (trust, false),
            ClientValidation::Required(trust) => (trust, true),
        };
        let authorities =
            self.cas.iter().map(|ca| self.verifier_of(ca, required, provider)).collect::<Result<_, _>>()?;
        let anchors = self
            .cas
            .iter()
            .map(|ca| webpki::anchor_from_trusted_cert(ca).map(|anchor| anchor.to_owned()))
            .collect::<Result<_, _>>()
            .map_err(|error| self.unusable(&error))?;
        Ok(Some(Arc::new(ClientVerifier::new(authorities, anchors, provider, required, trust))))
    }

    /// The verifier of one CA. Each has its own, because webpki finds a revocation list by the name of its issuer alone:
    /// with two CAs of one name, as two generations of an authority have, it would take the other's list.
    fn verifier_of(
        &self,
        ca: &CertificateDer<'static>,
        required: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).map_err(|error| self.unusable(&error))?;
        let mut crls: Vec<_> = self.crls.iter().filter(|crl| !is_of_namesake(crl, ca)).cloned().collect();
        if crls.is_empty() {
            // None at all would mean that nothing is checked; with lists of others, what this CA issued is refused.
            crls.clone_from(&self.crls);
        }
        // A list that is outdated, or missing for one CA of a chain, revokes everything below it, as in OpenSSL: who
        // can keep a list from being renewed must not be able to bring a revoked certificate back.
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .with_crls(crls)
            .enforce_revocation_expiration();
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        builder.build().map(|verifier| verifier as Arc<dyn ClientCertVerifier>).map_err(|error| self.unusable(&error))
    }

    /// Every file is checked by itself when it is read, so this is about all of them together.
    fn unusable(&self, reason: &dyn std::error::Error) -> CertificateError {
        CertificateError::UnusableCa { path: self.first_bundle.clone(), number: 1, reason: reason.to_string() }
    }
}

/// Whether a list comes from another CA of this one's name: by its authority key identifier (RFC 5280 section 5.2.1).
fn is_of_namesake(crl: &[u8], ca: &[u8]) -> bool {
    let (Ok((_, crl)), Ok((_, ca))) = (parse_x509_crl(crl), parse_x509_certificate(ca)) else { return false };
    let signer = crl.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.as_ref(),
        _ => None,
    });
    let own = ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier),
        _ => None,
    });
    crl.issuer().as_raw() == ca.subject().as_raw() && signer.zip(own).is_some_and(|(signer, own)| signer != own)
}

/// The certificates of a CA bundle, each known to be usable as an anchor.
pub(crate) fn read_cas(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = read_certificates(path)?;
    if certificates.is_empty() {
        return Err(CertificateError::NoCa { path: path.to_owned() });
    }
    let mut probe = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        probe.add(certificate.clone()).map_err(|error| CertificateError::UnusableCa {
            path: path.to_owned(),
            number: index + 1,
            reason: error.to_string(),
        })?;
    }
    Ok(certificates)
}

/// The revocation lists of a file, each known to be readable.
pub(crate) fn read_crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, CertificateError> {
    let pem = pem_file::read(path)?;
    let crls = CertificateRevocationListDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::Pem { path: path.to_owned(), reason: error.to_string() })?;
    if crls.is_empty() {
        return Err(CertificateError::NoCrl { path: path.to_owned() });
    }
    for (index, crl) in crls.iter().enumerate() {
        parse_x509_crl(crl).map_err(|error| CertificateError::UnusableCrl {
            path: path.to_owned(),
            number: index + 1,
            reason: error.to_string(),
        })?;
    }
    Ok(crls)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::test_pki::Authority;

    fn read(bundle: &str, crl: Option<&str>) -> Result<ClientAnchors, CertificateError> {
        let dir = tempfile::tempdir().unwrap();
        let (ca, list) = (dir.path().join("ca.crt"), dir.path().join("ca.crl"));
        fs::write(&ca, bundle).unwrap();
        let mut trust = ClientTrust { ca: vec![ca], ..ClientTrust::default() };
        if let Some(crl) = crl {
            fs::write(&list, crl).unwrap();
            trust.crl.push(list);
        }
        ClientAnchors::read(&trust)
    }

    #[test]
    fn a_bundle_of_several_cas_is_taken_whole() {
        let bundle = format!("{}{}", Authority::new("one").ca_pem(), Authority::new("two").ca_pem());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let validation = ClientValidation::Required(ClientTrust::default());
        let verifier = read(&bundle, None).unwrap().verifier(&validation, &provider).unwrap().unwrap();
        assert!(verifier.client_auth_mandatory());
        assert_eq!(verifier.root_hint_subjects().len(), 2);
    }

    #[test]
    fn an_empty_bundle_and_a_broken_certificate_are_named() {
        assert!(matches!(read("", None).unwrap_err(), CertificateError::NoCa { .. }));
        let good = Authority::new("one").ca_pem();
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = read(&format!("{good}{bad}"), None).unwrap_err();
        assert!(matches!(error, CertificateError::UnusableCa { number: 2, .. }), "{error}");
    }

    #[test]
    fn a_revocation_list_is_read_and_a_file_without_one_is_named() {
        let authority = Authority::new("one");
        let anchors = read(&authority.ca_pem(), Some(&authority.crl(&[], 2100))).unwrap();
        assert_eq!((anchors.authorities(), anchors.revocation_lists()), (1, 1));
        let error = read(&authority.ca_pem(), Some(&authority.ca_pem())).unwrap_err();
        assert!(matches!(error, CertificateError::NoCrl { .. }), "{error}");
        let broken = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
        let error = read(&authority.ca_pem(), Some(broken)).unwrap_err();
        assert!(matches!(error, CertificateError::UnusableCrl { number: 1, .. }), "{error}");
    }
}
