//! What a leaf certificate says about itself: names for choosing it, serial and end of validity for showing it.
//! Verifies nothing: that is the client's part.

use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// The fields of a leaf that the terminator uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The DNS names of the subjectAltName extension, lower case, in their order; wildcards as `*.` and a suffix.
    pub dns_names: Vec<String>,
    /// In hexadecimal digits, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// The end of its validity in seconds since 1970.
    pub not_after: i64,
}

impl Leaf {
    /// Parses one DER certificate.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, String> {
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
        Ok(Self { dns_names, serial, not_after: certificate.validity().not_after.timestamp() })
    }
}

/// Who a client's certificate says that it is, in one text: its URI (SPIFFE), else its DNS name, else its common name,
/// else its whole subject. For people and logs; no decision hangs on it.
pub(crate) fn client_identity(der: &[u8]) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|extension| &extension.value.general_names);
    let (mut uri, mut dns) = (None, None);
    for name in names {
        match name {
            GeneralName::URI(name) => uri = uri.or(Some(*name)),
            GeneralName::DNSName(name) => dns = dns.or(Some(*name)),
            _ => {}
        }
    }
    let common_name = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    Some(uri.or(dns).or(common_name).map_or_else(|| certificate.subject().to_string(), str::to_owned))
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
    fn a_client_is_called_by_its_dns_name_or_its_common_name() {
        let authority = Authority::new("a");
        let identity = |chain: &str| client_identity(&CertificateDer::from_pem_slice(chain.as_bytes()).unwrap());
        let client = authority.client("manager-client").chain_pem;
        assert_eq!(identity(&client).as_deref(), Some("manager-client"));
        let server = authority.server(&["a.example"], KeyKind::Ecdsa).chain_pem;
        assert_eq!(identity(&server).as_deref(), Some("a.example"));
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(Leaf::parse(b"no certificate").is_err());
        assert_eq!(client_identity(b"no certificate"), None);
    }
}
