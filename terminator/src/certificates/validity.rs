//! What an operator should know about a chain that can be served: dates, names, order, signatures.
//! Pure: the moment is an argument, and nothing here decides what is served.

use std::fmt;
use std::time::Duration;

use config::{Endpoint, HostnamePattern, Terminate};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error as TlsError, RootCertStore};
use x509_parser::parse_x509_certificate;

use super::strength::weak_algorithm;
use super::{Leaf, Moment};
use crate::tenant_names::parent;

/// Something about a chain that clients will, or may, refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The leaf's end has passed.
    Expired(Moment),
    /// The leaf's begin has not come, or this host's clock is wrong.
    NotYetValid(Moment),
    /// These names and addresses are in none of the tenant's certificates.
    NamesNotCovered(Vec<String>),
    /// The certificate at this place, from 1, did not issue the one before it.
    WrongOrder { place: usize },
    /// The signatures do not lead from the leaf to the last certificate of the file.
    BrokenChain(String),
    /// An issuer in the file is outside its validity.
    IssuerOutOfDate,
    /// The certificate says that it is not for TLS servers.
    NotForServers,
    /// The certificate at this place, from 1, is signed with a broken hash.
    WeakSignature { place: usize, algorithm: &'static str },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(end) => write!(f, "expired at {end}: clients refuse it"),
            Self::NotYetValid(begin) => {
                write!(f, "not valid before {begin}: clients refuse it until then, unless this host's clock is wrong")
            }
            Self::NamesNotCovered(names) => {
                write!(f, "does not cover {}: clients that ask for it refuse the connection", names.join(", "))
            }
            Self::WrongOrder { place } => {
                let before = place - 1;
                write!(
                    f,
                    "certificate {place} of the file did not issue certificate {before}: put each issuer after what it issued"
                )
            }
            Self::BrokenChain(reason) => {
                write!(f, "the chain of the file is broken ({reason}): clients cannot verify it with these issuers")
            }
            Self::IssuerOutOfDate => f.write_str("an issuer in the file is expired or not yet valid"),
            Self::WeakSignature { place, algorithm } => {
                write!(f, "{place} of the file is signed with {algorithm}: clients refuse it")
            }
            Self::NotForServers => f.write_str("its extended key usage does not allow TLS servers"),
        }
    }
}

/// All that is wrong with a chain at this moment. The key is not looked at.
pub(crate) fn findings(
    chain: &[CertificateDer<'_>],
    leaf: &Leaf,
    now: Moment,
    provider: &CryptoProvider,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = outside_its_dates(leaf, now).into_iter().collect();
    findings.extend(weak_signature(chain));
    match first_out_of_order(chain) {
        Some(place) => findings.push(Finding::WrongOrder { place }),
        // The leaf's own dates are told already, and would hide what else is wrong.
        None => findings.extend(broken(chain, now.0.clamp(leaf.not_before, leaf.not_after), provider)),
    }
    findings
}

/// The end or the begin, where this moment is beyond it.
pub(crate) fn outside_its_dates(leaf: &Leaf, now: Moment) -> Option<Finding> {
    if now.0 > leaf.not_after {
        Some(Finding::Expired(Moment(leaf.not_after)))
    } else if now.0 < leaf.not_before {
        Some(Finding::NotYetValid(Moment(leaf.not_before)))
    } else {
        None
    }
}

/// Whether the extended key usage, if there is one, allows TLS clients (RFC 5280 section 4.2.1.12).
pub(crate) fn is_for_clients(der: &[u8]) -> bool {
    let Ok((_, certificate)) = parse_x509_certificate(der) else { return false };
    match certificate.extended_key_usage() {
        Ok(Some(usage)) => usage.value.client_auth || usage.value.any,
        Ok(None) => true,
        Err(_) => false,
    }
}

/// What a tenant's certificates have to cover: its hostnames, and whatever else clients reach it by.
pub(crate) fn to_be_covered(hostnames: &[HostnamePattern], terminate: &Terminate) -> Vec<Endpoint> {
    let hostnames = hostnames.iter().cloned().map(Endpoint::Name);
    hostnames.chain(terminate.external_endpoints.iter().cloned()).collect()
}

/// The endpoints that none of a tenant's certificates covers.
pub(crate) fn not_covered<'l>(leaves: impl Iterator<Item = &'l Leaf>, endpoints: &[Endpoint]) -> Option<Finding> {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for leaf in leaves {
        names.extend(leaf.dns_names.iter().cloned());
        addresses.extend(&leaf.addresses);
    }
    let is_missing = |endpoint: &&Endpoint| match endpoint {
        Endpoint::Name(name) => !covers(&names, name),
        Endpoint::Address(address) => !addresses.contains(address),
    };
    let missing: Vec<String> = endpoints.iter().filter(is_missing).map(ToString::to_string).collect();
    (!missing.is_empty()).then_some(Finding::NamesNotCovered(missing))
}

/// A name or a wildcard of the certificate stands for a hostname of the configuration (RFC 9525 section 6.3).
pub(crate) fn covers(dns_names: &[String], hostname: &HostnamePattern) -> bool {
    dns_names.iter().any(|name| match (name.strip_prefix("*."), hostname) {
        (None, HostnamePattern::Exact(exact)) => exact.as_str() == name,
        (Some(suffix), HostnamePattern::Exact(exact)) => parent(exact.as_str()) == Some(suffix),
        (Some(suffix), HostnamePattern::Wildcard(wildcard)) => wildcard.as_str() == suffix,
        (None, HostnamePattern::Wildcard(_)) => false,
    })
}

/// The first certificate with a signature that nobody accepts any more. That of a root is never verified.
fn weak_signature(chain: &[CertificateDer<'_>]) -> Option<Finding> {
    chain.iter().enumerate().find_map(|(index, der)| {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        if certificate.issuer().as_raw() == certificate.subject().as_raw() {
            return None;
        }
        let algorithm = weak_algorithm(&certificate.signature_algorithm.algorithm)?;
        Some(Finding::WeakSignature { place: index + 1, algorithm })
    })
}

/// The place, from 1, of the first certificate whose subject is not the issuer of the one before it.
fn first_out_of_order(chain: &[CertificateDer<'_>]) -> Option<usize> {
    let place = chain.windows(2).position(|pair| {
        match (parse_x509_certificate(&pair[0]), parse_x509_certificate(&pair[1])) {
            (Ok((_, issued)), Ok((_, issuer))) => issued.issuer().as_raw() != issuer.subject().as_raw(),
            _ => true,
        }
    })?;
    Some(place + 2)
}

/// Verifies the chain with its last certificate as the anchor; a leaf alone has nothing to be verified with.
fn broken(chain: &[CertificateDer<'_>], at: i64, provider: &CryptoProvider) -> Option<Finding> {
    let [leaf, issuers @ .., last] = chain else { return None };
    let mut roots = RootCertStore::empty();
    if let Err(error) = roots.add(last.clone().into_owned()) {
        return Some(Finding::BrokenChain(error.to_string()));
    }
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or(0)));
    let algorithms = provider.signature_verification_algorithms.all;
    let verified = ParsedCertificate::try_from(leaf)
        .and_then(|leaf| verify_server_cert_signed_by_trust_anchor(&leaf, &roots, issuers, at, algorithms));
    match verified {
        Ok(()) => None,
        Err(TlsError::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => Some(Finding::IssuerOutOfDate),
        Err(TlsError::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        )) => Some(Finding::NotForServers),
        Err(error) => Some(Finding::BrokenChain(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::test_pki::{Authority, KeyKind};

    fn examine(pem: &str, hostnames: &[&str], now: i64) -> Vec<Finding> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
        let leaf = Leaf::parse(&chain[0]).unwrap();
        let endpoint = |name: &&str| match name.parse() {
            Ok(address) => Endpoint::Address(address),
            Err(_) => Endpoint::Name(HostnamePattern::parse(name).unwrap()),
        };
        let endpoints: Vec<_> = hostnames.iter().map(endpoint).collect();
        let mut findings = findings(&chain, &leaf, Moment(now), &default_provider());
        findings.extend(not_covered(std::iter::once(&leaf), &endpoints));
        findings
    }

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn a_good_chain_has_no_findings() {
        let root = Authority::new("root");
        let middle = root.intermediate("middle");
        let leaf = middle.server(&["a.example", "*.b.example"], KeyKind::Ecdsa).chain_pem;
        let names = ["a.example", "x.b.example", "*.b.example"];
        assert_eq!(examine(&leaf, &names, NOW), []);
        assert_eq!(examine(&format!("{leaf}{}", middle.ca_pem()), &names, NOW), []);
        assert_eq!(examine(&format!("{leaf}{}{}", middle.ca_pem(), root.ca_pem()), &names, NOW), []);
    }

    #[test]
    fn dates_and_names_are_told_together() {
        let leaf = Authority::new("root").dated_server(&["a.example"], (2020, 2021)).chain_pem;
        let expired = examine(&leaf, &["a.example", "b.example", "*.a.example"], NOW);
        assert_eq!(
            expired,
            [
                Finding::Expired(Moment(1_609_459_200)),
                Finding::NamesNotCovered(vec!["b.example".into(), "*.a.example".into()])
            ]
        );
        assert_eq!(expired[0].to_string(), "expired at 2021-01-01 00:00 UTC: clients refuse it");
        assert_eq!(examine(&leaf, &[], 1_500_000_000), [Finding::NotYetValid(Moment(1_577_836_800))]);
    }

    #[test]
    fn addresses_are_covered_by_addresses_alone() {
        let leaf = Authority::new("root").server(&["a.example", "192.0.2.1", "2001:db8::1"], KeyKind::Ecdsa).chain_pem;
        assert_eq!(examine(&leaf, &["a.example", "192.0.2.1", "2001:db8::1"], NOW), []);
        let missing = Finding::NamesNotCovered(vec!["192.0.2.2".into()]);
        assert_eq!(examine(&leaf, &["192.0.2.2"], NOW), [missing]);
    }

    #[test]
    fn issuers_in_the_wrong_order_and_strangers_are_told_by_their_place() {
        let root = Authority::new("root");
        let middle = root.intermediate("middle");
        let leaf = middle.server(&["a.example"], KeyKind::Ecdsa).chain_pem;
        let swapped = format!("{leaf}{}{}", root.ca_pem(), middle.ca_pem());
        assert_eq!(examine(&swapped, &[], NOW), [Finding::WrongOrder { place: 2 }]);
        let stranger = Authority::new("stranger");
        assert_eq!(
            examine(&format!("{leaf}{}{}", middle.ca_pem(), stranger.ca_pem()), &[], NOW),
            [Finding::WrongOrder { place: 3 }]
        );
    }

    #[test]
    fn an_issuer_of_the_right_name_with_another_key_breaks_the_chain() {
        let leaf = Authority::new("root").server(&["a.example"], KeyKind::Ecdsa).chain_pem;
        let found = examine(&format!("{leaf}{}", Authority::new("root").ca_pem()), &[], NOW);
        assert!(matches!(&found[..], [Finding::BrokenChain(_)]), "{found:?}");
    }

    #[test]
    fn a_certificate_for_clients_is_not_for_servers() {
        let authority = Authority::new("root");
        let chain = format!("{}{}", authority.client("manager").chain_pem, authority.ca_pem());
        assert_eq!(examine(&chain, &[], NOW), [Finding::NotForServers]);
    }
}
