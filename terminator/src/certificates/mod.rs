//! The tenant's certificates and keys, and the CAs of its clients: read from files, checked, chosen per hello.
//! Nothing here talks to a network, and no key leaves this folder except inside rustls' signing keys.

mod client_ca;
mod client_rules;
mod client_verifier;
mod ending;
mod expiry;
mod leaf;
mod moment;
mod pem_file;
mod presence;
mod refused;
mod resolver;
mod staple;
mod strength;
mod validity;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::CertificateSource;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use thiserror::Error;

pub(crate) use client_ca::{ClientAnchors, read_cas, read_crls};
pub(crate) use client_rules::{CertificateLabel, ClientIdentity, admit};
pub(crate) use ending::{Ending, EndingKind, trust_status};
pub(crate) use expiry::{ExpiryWatch, Stage, Warning};
pub(crate) use leaf::{Leaf, common_name};
pub(crate) use moment::Moment;
pub(crate) use pem_file::UnreadableFile;
pub(crate) use presence::{Presence, presence};
pub(crate) use refused::{refuse, with_refused};
pub(crate) use resolver::CertificateResolver;
pub(crate) use staple::{NotStapled, Staple, staple_path};
pub(crate) use strength::KeyStrength;
pub(crate) use validity::{Finding, covers, findings, is_for_clients, not_covered, outside_its_dates, to_be_covered};

/// A certificate chain with its key, ready to be served, and what its leaf says.
#[derive(Clone, Debug)]
pub(crate) struct ServedCertificate {
    /// What rustls signs with.
    pub certified_key: Arc<CertifiedKey>,
    /// Names, serial and end of validity.
    pub leaf: Leaf,
    /// What the operator calls it: the folder or the certificate file of the configuration.
    pub name: String,
    /// The OCSP response beside it, or why that is not stapled; `None` where there is none.
    pub staple: Option<Result<Staple, NotStapled>>,
}

impl ServedCertificate {
    /// Reads and checks one certificate and its key.
    pub(crate) fn load(source: &CertificateSource, provider: &CryptoProvider) -> Result<Self, CertificateError> {
        let (chain_path, key_path) = paths(source);
        match presence(source) {
            Presence::Absent => return Err(CertificateError::NotFound { path: chain_path, key: key_path }),
            Presence::Half { missing, there } => return Err(CertificateError::HalfMissing { missing, there }),
            Presence::There => {}
        }
        let chain = read_certificates(&chain_path)?;
        let leaf_der = chain.first().ok_or_else(|| CertificateError::NoCertificate { path: chain_path.clone() })?;
        let leaf =
            Leaf::parse(leaf_der).map_err(|reason| CertificateError::Leaf { path: chain_path.clone(), reason })?;
        if let Some(bits) = leaf::rsa_bits(leaf_der).filter(|bits| *bits < MIN_RSA_BITS) {
            return Err(CertificateError::WeakKey { path: chain_path, bits });
        }
        let key = read_key(&key_path)?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| CertificateError::UnusableKey { path: key_path.clone(), reason: error.to_string() })?;
        let mut certified_key = CertifiedKey::new(chain, key);
        match certified_key.keys_match() {
            // Unknown: the key cannot say what its public half is. No key of this provider does that; a handshake
            // with it would fail at the client, so it is no reason to refuse.
            Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(TlsError::InconsistentKeys(_)) => {
                return Err(CertificateError::KeyMismatch { certificate: chain_path, key: key_path });
            }
            Err(error) => {
                return Err(CertificateError::Leaf { path: chain_path, reason: error.to_string() });
            }
        }
        let staple = staple::read(&staple_path(source), &leaf, Moment::now());
        certified_key.ocsp = staple.as_ref().and_then(|staple| staple.as_ref().ok()).map(|staple| staple.der.clone());
        Ok(Self { certified_key: Arc::new(certified_key), leaf, name: Self::name_of(source), staple })
    }

    /// What the operator calls the certificate of this source.
    pub(crate) fn name_of(source: &CertificateSource) -> String {
        let path = match source {
            CertificateSource::SecretDir(path) | CertificateSource::Files { certificate: path, .. } => path,
        };
        path.display().to_string()
    }

    /// Whether what is stapled to it is outdated by now.
    pub(crate) fn staple_is_over(&self, now: Moment) -> bool {
        let staple = self.staple.as_ref().and_then(|staple| staple.as_ref().ok());
        staple.is_some_and(|staple| staple.next_update.is_some_and(|end| end < now))
    }

    /// Whether another one would serve the same. A chain has one key, so the chains tell.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.certified_key.cert == other.certified_key.cert
    }
}

/// Why a certificate, its key or a CA bundle cannot be used. Every variant names the file.
#[derive(Debug, Error)]
pub(crate) enum CertificateError {
    /// The file cannot be read; says which permission is missing, where it can tell.
    #[error(transparent)]
    Unreadable(#[from] UnreadableFile),
    /// Neither the chain's nor the key's file exists.
    #[error("secret not found: neither {} nor {} exists", path.display(), key.display())]
    NotFound {
        /// The chain's.
        path: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// One of the two exists.
    #[error("{} is missing: there is only {}", missing.display(), there.display())]
    HalfMissing {
        /// The one that does not.
        missing: PathBuf,
        /// The one that does.
        there: PathBuf,
    },
    /// The file is not well-formed PEM.
    #[error("{}: not valid PEM: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the PEM parser says.
        reason: String,
    },
    /// No CERTIFICATE section.
    #[error("{}: no certificate in it; expected PEM, the server's certificate first, then its issuers", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The certificate is no X.509 certificate.
    #[error("{}: the first certificate cannot be used: {reason}", path.display())]
    Leaf {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// No private key section.
    #[error("{}: no private key in it; expected one PEM section PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key needs a passphrase, and nobody is there to type it.
    #[error("{}: the private key is encrypted; store it decrypted (openssl pkey -in {} -out tls.key) and protect the file by its permissions", path.display(), path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// More than one key: which one is meant would be a guess.
    #[error("{}: {count} private keys in it; expected exactly one", path.display())]
    SeveralKeys {
        /// The file.
        path: PathBuf,
        /// How many were found.
        count: usize,
    },
    /// The key's algorithm or size is not supported, or its content is damaged.
    #[error("{}: the private key cannot be used: {reason}", path.display())]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// What the provider says.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("{}: this key does not belong to the certificate in {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The file of the chain.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// A CA bundle without a certificate.
    #[error("{}: no CA certificate in it; expected a PEM bundle", path.display())]
    NoCa {
        /// The file.
        path: PathBuf,
    },
    /// A file of revocation lists without one.
    #[error("{}: no revocation list in it; expected PEM sections X509 CRL", path.display())]
    NoCrl {
        /// The file.
        path: PathBuf,
    },
    /// A revocation list that cannot be read.
    #[error("{}: revocation list {number} cannot be used: {reason}", path.display())]
    UnusableCrl {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        number: usize,
        /// What the parser says.
        reason: String,
    },
    /// The key is too short to be trusted by clients.
    #[error("{}: its RSA key has {bits} bits, and clients want 2048 or more", path.display())]
    WeakKey {
        /// The file.
        path: PathBuf,
        /// Bits of the modulus.
        bits: usize,
    },
    /// A CA certificate that cannot be a trust anchor.
    #[error("{}: CA certificate {number} cannot be used: {reason}", path.display())]
    UnusableCa {
        /// The file.
        path: PathBuf,
        /// Its place in the bundle, from 1.
        number: usize,
        /// What the verifier says.
        reason: String,
    },
}

/// The files of a source: the chain's and the key's.
pub(crate) fn paths(source: &CertificateSource) -> (PathBuf, PathBuf) {
    match source {
        CertificateSource::SecretDir(dir) => (dir.join("tls.crt"), dir.join("tls.key")),
        CertificateSource::Files { certificate, key } => (certificate.clone(), key.clone()),
    }
}

/// All CERTIFICATE sections of a file, in their order; other sections are skipped.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let pem = pem_file::read(path)?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| CertificateError::Pem { path: path.to_owned(), reason: error.to_string() })
}

pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let pem = pem_file::read(path)?;
    if is_encrypted(&pem) {
        return Err(CertificateError::EncryptedKey { path: path.to_owned() });
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::Pem { path: path.to_owned(), reason: error.to_string() })?;
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (None, _) => Err(CertificateError::NoKey { path: path.to_owned() }),
        (Some(_), others) => Err(CertificateError::SeveralKeys { path: path.to_owned(), count: others + 1 }),
    }
}

/// One CERTIFICATE section (RFC 7468 section 5.1).
pub(crate) fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let section = pem::Pem::new("CERTIFICATE", certificate.as_ref());
    pem::encode_config(&section, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}

/// Both PEM encryptions: PKCS #8 (RFC 7468 section 11) and OpenSSL's older header (RFC 1421 section 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    pem.split(|byte| matches!(byte, b'\n' | b'\r')).any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || (line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"))
    })
}

/// What browsers and TLS libraries accept at least (CA/Browser Forum Baseline Requirements section 6.1.5).
const MIN_RSA_BITS: usize = 2048;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::test_pki::{Authority, KeyKind, Pair};

    impl Pair {
        pub(crate) fn served(&self) -> ServedCertificate {
            load(&self.chain_pem, &self.key_pem).unwrap()
        }
    }

    fn load(certificate: &str, key: &str) -> Result<ServedCertificate, CertificateError> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tls.crt"), certificate).unwrap();
        fs::write(dir.path().join("tls.key"), key).unwrap();
        ServedCertificate::load(
            &CertificateSource::SecretDir(dir.path().to_owned()),
            &rustls::crypto::aws_lc_rs::default_provider(),
        )
    }

    #[test]
    fn a_chain_and_its_key_are_loaded() {
        let pair = Authority::new("a").server(&["api.acme.example", "*.acme.example"], KeyKind::Rsa);
        let served = load(&pair.chain_pem, &pair.key_pem).unwrap();
        assert_eq!(served.leaf.dns_names, ["api.acme.example", "*.acme.example"]);
        assert!(!served.leaf.serial.is_empty());
    }

    #[test]
    fn the_key_of_another_certificate_is_refused() {
        let authority = Authority::new("a");
        let (one, other) =
            (authority.server(&["a.example"], KeyKind::Ecdsa), authority.server(&["a.example"], KeyKind::Ecdsa));
        let error = load(&one.chain_pem, &other.key_pem).unwrap_err();
        assert!(matches!(error, CertificateError::KeyMismatch { .. }), "{error}");
        assert!(error.to_string().contains("tls.key: this key does not belong to the certificate in"), "{error}");
    }

    type Expected = fn(&CertificateError) -> bool;

    #[test]
    fn each_unusable_file_has_its_own_error() {
        let pair = Authority::new("a").server(&["a.example"], KeyKind::Ecdsa);
        let two_keys = format!("{}{}", pair.key_pem, pair.key_pem);
        let legacy = pair.key_pem.replacen("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1);
        let pkcs8 = pair.key_pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let broken = pair.chain_pem.replacen("-----END", "****-----END", 1);
        let cases: [(&str, &str, Expected); 7] = [
            ("", &pair.key_pem, |e| matches!(e, CertificateError::NoCertificate { .. })),
            (&pair.chain_pem, &pair.chain_pem, |e| matches!(e, CertificateError::NoKey { .. })),
            (&pair.chain_pem, &legacy, |e| matches!(e, CertificateError::EncryptedKey { .. })),
            (&pair.chain_pem, &pkcs8, |e| matches!(e, CertificateError::EncryptedKey { .. })),
            (&pair.chain_pem, &two_keys, |e| matches!(e, CertificateError::SeveralKeys { count: 2, .. })),
            (&broken, &pair.key_pem, |e| matches!(e, CertificateError::Pem { .. })),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &pair.key_pem, |e| {
                matches!(e, CertificateError::Leaf { .. })
            }),
        ];
        for (number, (certificate, key, expected)) in cases.iter().enumerate() {
            let error = load(certificate, key).unwrap_err();
            assert!(expected(&error), "case {number}: {error}");
        }
    }
}
