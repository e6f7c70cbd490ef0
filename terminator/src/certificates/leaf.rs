//! What a leaf certificate says about itself: names for choosing it, serial and end of validity for showing it.
//! Verifies nothing: that is the client's part.

use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// The fields of a leaf that the terminator uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The DNS names of the subjectAltName extension, lower case, in their order; wildcards as `*.` and a suffix.
    pub dns_names: Vec<String>,
    /// What people call this certificate: its first DNS name, else its common name, else its serial.
    pub label: String,
    /// In hexadecimal digits, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// The end of its validity in seconds since 1970.
    pub not_after: i64,
}

impl Leaf {
    /// Parses one DER certificate.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = parse_x509_certificate(der).map_err(|error| error.to_string())?;
        let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        let dns_names: Vec<String> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
                _ => None,
            })
            .collect();
        let serial: String = certificate.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect();
        let common_name = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
        let label = dns_names.first().map(String::as_str).or(common_name).unwrap_or(&serial).to_owned();
        Ok(Self { dns_names, label, serial, not_after: certificate.validity().not_after.timestamp() })
    }
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
