//! What a certificate's key and signature are worth. Pure.

use std::fmt;

use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_MD5WITHRSAENC,
    OID_PKCS1_SHA1WITHRSA, OID_SIG_ED25519, Oid, OidRegistry,
};
use x509_parser::parse_x509_certificate;

use super::leaf::rsa_bits;

/// A leaf's key, and what its issuer signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyStrength {
    key: String,
    signature: String,
}

impl KeyStrength {
    /// Reads it off a DER certificate.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let algorithm = &certificate.public_key().algorithm;
        let key = match rsa_bits(der) {
            Some(bits) => format!("RSA {bits} bits"),
            None if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => {
                let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
                format!("EC {}", curve.map_or_else(|| "of its own curve".to_owned(), |curve| curve_name(&curve)))
            }
            None if algorithm.algorithm == OID_SIG_ED25519 => "Ed25519".to_owned(),
            None => name(&algorithm.algorithm),
        };
        Some(Self { key, signature: name(&certificate.signature_algorithm.algorithm) })
    }
}

impl fmt::Display for KeyStrength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, signed with {}", self.key, self.signature)
    }
}

/// The name of a signature algorithm whose hash is broken (RFC 9155 for SHA-1 and MD5).
pub(super) fn weak_algorithm(algorithm: &Oid<'_>) -> Option<&'static str> {
    let id = algorithm.to_id_string();
    if *algorithm == OID_PKCS1_MD5WITHRSAENC {
        Some("MD5")
    } else if *algorithm == OID_PKCS1_SHA1WITHRSA || id == ECDSA_WITH_SHA1 || id == SHA1_WITH_RSA_OF_OIW {
        Some("SHA-1")
    } else {
        None
    }
}

fn curve_name(curve: &Oid<'_>) -> String {
    if *curve == OID_EC_P256 {
        "P-256".to_owned()
    } else if *curve == OID_NIST_EC_P384 {
        "P-384".to_owned()
    } else if *curve == OID_NIST_EC_P521 {
        "P-521".to_owned()
    } else {
        name(curve)
    }
}

fn name(oid: &Oid<'_>) -> String {
    let registry = OidRegistry::default().with_crypto();
    registry.get(oid).map_or_else(|| oid.to_id_string(), |entry| entry.sn().to_owned())
}

/// RFC 3279 section 2.2.3.
const ECDSA_WITH_SHA1: &str = "1.2.840.10045.4.1";
/// An older name of the same signature (OIW Security SIG).
const SHA1_WITH_RSA_OF_OIW: &str = "1.3.14.3.2.29";
