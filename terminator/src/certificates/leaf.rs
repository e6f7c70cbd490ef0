//! What a leaf certificate says about itself: names for choosing it, serial and validity for showing it.
//! Verifies nothing: that is the client's part.

use std::net::IpAddr;

use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::public_key::PublicKey;

/// The fields of a leaf that the terminator uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The DNS names of the subjectAltName extension, lower case, in their order; wildcards as `*.` and a suffix.
    pub dns_names: Vec<String>,
    /// The IP addresses of the same extension.
    pub addresses: Vec<IpAddr>,
    /// In hexadecimal digits, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// The begin of its validity in seconds since 1970.
    pub not_before: i64,
    /// The end of its validity in seconds since 1970.
    pub not_after: i64,
}

impl Leaf {
    /// Parses one DER certificate.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = parse_x509_certificate(der).map_err(|error| error.to_string())?;
        let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns_names.push(name.trim_end_matches('.').to_ascii_lowercase()),
                GeneralName::IPAddress(octets) => addresses.extend(address(octets)),
                _ => {}
            }
        }
        let serial: String = certificate.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect();
        let validity = certificate.validity();
        Ok(Self {
            dns_names,
            addresses,
            serial,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// All names and addresses, for people.
    pub(crate) fn names(&self) -> Vec<String> {
        self.dns_names.iter().cloned().chain(self.addresses.iter().map(ToString::to_string)).collect()
    }

    /// Whether it is valid at this moment, in seconds since 1970.
    pub(crate) fn is_valid_at(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// RFC 5280 section 4.2.1.6: four octets or sixteen.
fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// The length of an RSA key's modulus; `None` for other keys.
pub(super) fn rsa_bits(der: &[u8]) -> Option<usize> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    match certificate.public_key().parsed().ok()? {
        PublicKey::RSA(key) => Some(key.key_size()),
        _ => None,
    }
}

/// The subject's common name.
pub(crate) fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let name = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    name.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::test_pki::{Authority, KeyKind};

    #[test]
    fn names_serial_and_end_are_read() {
        let pair = Authority::new("a").server(&["API.acme.example", "*.acme.example"], KeyKind::Ecdsa);
        let der = CertificateDer::from_pem_slice(pair.chain_pem.as_bytes()).unwrap();
        let leaf = Leaf::parse(&der).unwrap();
        assert_eq!(leaf.dns_names, ["api.acme.example", "*.acme.example"]);
        assert!(leaf.not_after > 1_700_000_000);
        assert!(leaf.serial.chars().all(|digit| digit.is_ascii_hexdigit()));
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(Leaf::parse(b"no certificate").is_err());
    }
}
