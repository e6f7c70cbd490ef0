//! Chooses the certificate for one hello: by name, then by key type. Pure, no I/O, no state that changes.
//! Whether the name is this tenant's at all is decided before, in `tenant_names`.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::ServedCertificate;
use crate::tenant_names::{canonical, parent};

/// All certificates of one tenant, found by name. Exact names beat wildcards, which cover one label
/// (RFC 9525 section 6.3); for one name ECDSA beats Ed25519 beats RSA where the client can verify it.
#[derive(Debug)]
pub(crate) struct CertificateResolver {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    in_order: Vec<Arc<CertifiedKey>>,
}

impl CertificateResolver {
    /// Indexes the certificates; their order is kept as the last preference.
    pub(crate) fn new(certificates: &[ServedCertificate]) -> Self {
        let mut resolver = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            in_order: certificates.iter().map(|served| Arc::clone(&served.certified_key)).collect(),
        };
        for served in certificates {
            for name in &served.leaf.dns_names {
                let (index, name) = match name.strip_prefix("*.") {
                    Some(suffix) => (&mut resolver.wildcard, suffix),
                    None => (&mut resolver.exact, name.as_str()),
                };
                index.entry(name.to_owned()).or_default().push(Arc::clone(&served.certified_key));
            }
        }
        for candidates in resolver.exact.values_mut().chain(resolver.wildcard.values_mut()) {
            candidates.sort_by_key(|candidate| preference(candidate.key.algorithm()));
        }
        resolver
    }

    fn choose(&self, server_name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let usable = |candidates: &[Arc<CertifiedKey>]| {
            candidates.iter().find(|candidate| candidate.key.choose_scheme(schemes).is_some()).cloned()
        };
        let by_name = server_name.map(canonical).and_then(|name| {
            let exact = self.exact.get(name.as_ref()).and_then(|candidates| usable(candidates));
            exact.or_else(|| {
                let suffix = parent(&name)?;
                self.wildcard.get(suffix).and_then(|candidates| usable(candidates))
            })
        });
        // With no usable key type at all the first certificate goes on, and rustls ends the handshake with
        // handshake_failure (40), which is the truth; resolving to nothing would say access_denied (49).
        by_name.or_else(|| usable(&self.in_order)).or_else(|| self.in_order.first().cloned())
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(client_hello.server_name(), client_hello.signature_schemes())
    }
}

fn preference(algorithm: SignatureAlgorithm) -> u8 {
    match algorithm {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Leaf;
    use crate::test_pki::{Authority, KeyKind};

    const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
    const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];
    const BOTH: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];

    struct Fixture {
        served: Vec<ServedCertificate>,
        resolver: CertificateResolver,
    }

    impl Fixture {
        fn new(certificates: &[(&[&str], KeyKind)]) -> Self {
            let authority = Authority::new("a");
            let served: Vec<_> =
                certificates.iter().map(|(names, kind)| authority.server(names, *kind).served()).collect();
            Self { resolver: CertificateResolver::new(&served), served }
        }

        #[track_caller]
        fn expect(&self, name: Option<&str>, schemes: &[SignatureScheme], index: usize) {
            let chosen = self.resolver.choose(name, schemes).unwrap();
            let found = self.served.iter().position(|served| Arc::ptr_eq(&served.certified_key, &chosen));
            assert_eq!(found, Some(index), "for {name:?}");
        }
    }

    #[test]
    fn exact_beats_wildcard_whatever_the_order() {
        let all = Fixture::new(&[(&["*.acme.example"], KeyKind::Ecdsa), (&["api.acme.example"], KeyKind::Ecdsa)]);
        all.expect(Some("api.acme.example"), BOTH, 1);
        all.expect(Some("API.acme.example."), BOTH, 1);
        all.expect(Some("www.acme.example"), BOTH, 0);
    }

    #[test]
    fn a_wildcard_covers_one_label_only() {
        let all = Fixture::new(&[(&["other.example"], KeyKind::Ecdsa), (&["*.acme.example"], KeyKind::Ecdsa)]);
        all.expect(Some("a.acme.example"), BOTH, 1);
        all.expect(Some("a.b.acme.example"), BOTH, 0);
        all.expect(Some("acme.example"), BOTH, 0);
    }

    #[test]
    fn the_clients_signature_schemes_choose_the_key_type_and_ecdsa_is_preferred() {
        let all = Fixture::new(&[(&["a.example"], KeyKind::Rsa), (&["a.example"], KeyKind::Ecdsa)]);
        all.expect(Some("a.example"), BOTH, 1);
        all.expect(Some("a.example"), ECDSA, 1);
        all.expect(Some("a.example"), RSA, 0);
    }

    #[test]
    fn an_exact_name_with_an_unusable_key_gives_way_to_a_wildcard() {
        let all = Fixture::new(&[(&["a.acme.example"], KeyKind::Rsa), (&["*.acme.example"], KeyKind::Ecdsa)]);
        all.expect(Some("a.acme.example"), ECDSA, 1);
    }

    #[test]
    fn without_a_match_the_first_usable_certificate_is_served() {
        let all = Fixture::new(&[(&["a.example"], KeyKind::Rsa), (&["b.example"], KeyKind::Ecdsa)]);
        all.expect(Some("c.example"), BOTH, 0);
        all.expect(Some("c.example"), ECDSA, 1);
        all.expect(None, BOTH, 0);
        all.expect(None, &[SignatureScheme::ED25519], 0);
    }

    #[test]
    fn a_certificate_without_names_is_still_a_fallback() {
        let mut served = Authority::new("a").server(&["a.example"], KeyKind::Ecdsa).served();
        served.leaf = Leaf { dns_names: Vec::new(), ..served.leaf };
        assert!(CertificateResolver::new(&[served]).choose(Some("a.example"), BOTH).is_some());
    }
}
