//! Everything in use that comes to an end: the certificates that are served, their issuers, the CAs that are trusted or
//! told, and revocation lists. Says what they say of themselves; decides nothing.

use std::path::Path;

use connection::handoff::TrustStatus;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::{parse_x509_certificate, parse_x509_crl};

use super::ServedCertificate;

/// Something with an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// What it is for.
    pub(crate) kind: EndingKind,
    /// Its folder or file, as the operator calls it.
    pub(crate) name: String,
    /// Who it is; of a revocation list, who issued it.
    pub(crate) subject: String,
    /// In hexadecimal digits; of a revocation list, its number.
    pub(crate) serial: String,
    /// The begin of its validity in seconds since 1970.
    pub(crate) not_before: i64,
    /// The end of its validity in seconds since 1970; of a revocation list, when the next one was promised.
    pub(crate) not_after: i64,
}

/// These as the router is told of them: the nearest ends first, and no two that a metric could not tell apart.
pub(crate) fn trust_status(endings: &[Ending]) -> Vec<TrustStatus> {
    let mut sorted: Vec<&Ending> = endings.iter().collect();
    sorted.sort_by_key(|ending| ending.not_after);
    let mut told: Vec<TrustStatus> = Vec::new();
    for ending in sorted {
        let label = |status: &TrustStatus| {
            let (kind, name) = (ending.kind.label(), &ending.name);
            status.kind == kind
                && status.name == *name
                && status.subject == ending.subject()
                && status.serial == ending.serial
        };
        if told.len() < MAX_TOLD && !told.iter().any(label) {
            told.push(TrustStatus {
                kind: ending.kind.label().to_owned(),
                name: ending.name.clone(),
                subject: ending.subject(),
                serial: ending.serial.clone(),
                not_before: ending.not_before,
                not_after: ending.not_after,
            });
        }
    }
    told
}

/// What something with an end is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndingKind {
    /// A certificate of the tenant's own, shown to clients or to backends.
    Own,
    /// Comes after one of these in its file.
    Issuer,
    /// Clients' certificates come from it.
    ClientCa,
    /// Backends' certificates come from it.
    BackendCa,
    /// Clients are told to trust it.
    AdvertisedCa,
    /// Of a CA of clients.
    RevocationList,
}

impl EndingKind {
    /// The metrics' word for it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Issuer => "issuer",
            Self::ClientCa => "client_ca",
            Self::BackendCa => "backend_ca",
            Self::AdvertisedCa => "advertised_ca",
            Self::RevocationList => "revocation_list",
        }
    }
}

impl Ending {
    /// As much of the subject as has a place in a metric.
    fn subject(&self) -> String {
        self.subject.chars().take(MAX_SUBJECT).collect()
    }

    /// The leaf of a certificate that is served or shown.
    pub(crate) fn own(served: &ServedCertificate) -> Self {
        let leaf = &served.leaf;
        Self {
            kind: EndingKind::Own,
            name: served.name.clone(),
            subject: String::new(),
            serial: leaf.serial.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        }
    }

    /// What comes after the leaf. A root in the file is left out: nobody looks at the one that was sent.
    pub(crate) fn issuers(served: &ServedCertificate) -> Vec<Self> {
        let issuers = served.certified_key.cert.iter().skip(1);
        issuers.filter_map(|der| certificate(EndingKind::Issuer, &served.name, der, |is_root| !is_root)).collect()
    }

    /// The CAs of a bundle.
    pub(crate) fn cas(kind: EndingKind, bundle: &Path, cas: &[CertificateDer<'_>]) -> Vec<Self> {
        let name = bundle.display().to_string();
        cas.iter().filter_map(|der| certificate(kind, &name, der, |_| true)).collect()
    }

    /// The revocation lists of a file that say when the next one comes.
    pub(crate) fn revocation_lists(file: &Path, lists: &[CertificateRevocationListDer<'_>]) -> Vec<Self> {
        lists.iter().filter_map(|list| revocation_list(file, list)).collect()
    }
}

fn certificate(kind: EndingKind, name: &str, der: &[u8], wanted: impl Fn(bool) -> bool) -> Option<Ending> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let is_root = certificate.issuer().as_raw() == certificate.subject().as_raw();
    wanted(is_root).then(|| Ending {
        kind,
        name: name.to_owned(),
        subject: certificate.subject().to_string(),
        serial: hex(certificate.raw_serial()),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

fn revocation_list(file: &Path, der: &[u8]) -> Option<Ending> {
    let (_, list) = parse_x509_crl(der).ok()?;
    Some(Ending {
        kind: EndingKind::RevocationList,
        name: file.display().to_string(),
        subject: list.issuer().to_string(),
        serial: list.crl_number().map(|number| hex(&number.to_bytes_be())).unwrap_or_default(),
        not_before: list.last_update().timestamp(),
        not_after: list.next_update()?.timestamp(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The status has a bound (`connection::handoff`), and a bundle of all public CAs has 150.
const MAX_TOLD: usize = 64;
/// Longer than any that is made for people.
const MAX_SUBJECT: usize = 200;

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::test_pki::{Authority, KeyKind, Pair};

    #[test]
    fn issuers_are_those_between_the_leaf_and_the_root() {
        let root = Authority::new("root");
        let middle = root.intermediate("middle");
        let pair = middle.server(&["a.example"], KeyKind::Ecdsa);
        let chain_pem = format!("{}{}{}", pair.chain_pem, middle.ca_pem(), root.ca_pem());
        let served = Pair { chain_pem, ..pair }.served();
        let issuers = Ending::issuers(&served);
        assert!(matches!(&issuers[..], [issuer] if issuer.subject == "CN=middle"), "{issuers:?}");
        assert_eq!((issuers[0].kind, &issuers[0].name), (EndingKind::Issuer, &served.name));
        assert_eq!(Ending::own(&served).not_after, served.leaf.not_after);
    }

    #[test]
    fn a_bundle_s_cas_and_a_list_s_promise_are_read() {
        let authority = Authority::new("clients");
        let ca = CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap();
        let cas = Ending::cas(EndingKind::ClientCa, Path::new("/ca.crt"), &[ca]);
        assert!(matches!(&cas[..], [ca] if ca.subject == "CN=clients" && ca.name == "/ca.crt"), "{cas:?}");
        let list = CertificateRevocationListDer::from_pem_slice(authority.crl(&[], 2029).as_bytes()).unwrap();
        let lists = Ending::revocation_lists(Path::new("/ca.crl"), &[list]);
        // 2030-01-01.
        assert!(matches!(&lists[..], [list] if list.not_after == 1_893_456_000 && list.serial == "01"), "{lists:?}");
    }

    #[test]
    fn the_status_has_the_nearest_ends_first_each_once_and_not_too_many() {
        let ending = |serial: usize, not_after: i64| Ending {
            kind: EndingKind::ClientCa,
            name: "/ca.crt".into(),
            subject: "CN=clients".into(),
            serial: serial.to_string(),
            not_before: 0,
            not_after,
        };
        let mut endings: Vec<Ending> = (0..100).map(|serial| ending(serial, 1000 - serial as i64)).collect();
        endings.push(ending(99, 5000));
        let told = trust_status(&endings);
        assert_eq!((told.len(), told[0].not_after, told[1].not_after), (MAX_TOLD, 901, 902));
        assert_eq!(told.iter().filter(|told| told.serial == "99").count(), 1);
    }
}
