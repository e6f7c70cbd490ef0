//! Which certificate a terminated tenant shows, and what else its TLS settings decide.

use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite};
use tests::authority::{Authority, Identity, KeyKind};
use tests::fakes::PlainHttp;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::{TlsClient, TlsStream};

use crate::two_tenants::TERMINATE;

#[test]
fn the_exact_name_s_certificate_beats_the_wildcard_s() {
    let authority = Authority::new("scenario CA").unwrap();
    let wildcard = authority.server(&["*.acme.test"], KeyKind::Ecdsa).unwrap();
    let exact = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let router = Terminated::new(&[TERMINATE, "*.acme.test"], &[&wildcard, &exact]).start("");
    let client = TlsClient::trusting(&authority).unwrap();
    assert!(shows(&client.connect(router.address(), TERMINATE).unwrap(), &exact));
    assert!(shows(&client.connect(router.address(), "www.acme.test").unwrap(), &wildcard));
}

#[test]
fn ecdsa_and_rsa_side_by_side_serve_each_client_its_kind() {
    let authority = Authority::new("scenario CA").unwrap();
    let ecdsa = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let rsa = authority.server(&[TERMINATE], KeyKind::Rsa).unwrap();
    let router = Terminated::new(&[TERMINATE], &[&rsa, &ecdsa]).start("");
    let client = TlsClient::trusting(&authority).unwrap().only(&TLS12);
    let only = |suite: CipherSuite| {
        let client = client.clone().only_suites(move |offered: &SupportedCipherSuite| offered.suite() == suite);
        client.connect(router.address(), TERMINATE).unwrap()
    };
    assert!(shows(&only(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256), &rsa));
    assert!(shows(&only(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), &ecdsa));
    let modern = TlsClient::trusting(&authority).unwrap().connect(router.address(), TERMINATE).unwrap();
    assert!(shows(&modern, &ecdsa));
}

#[test]
fn both_protocol_versions_are_spoken_unless_the_lower_one_is_forbidden() {
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let router = Terminated::new(&[TERMINATE], &[&certificate]).start("");
    let client = TlsClient::trusting(&authority).unwrap();
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let stream = client.clone().only(version).connect(router.address(), TERMINATE).unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(expected));
    }
    let strict = Terminated::new(&[TERMINATE], &[&certificate]).start("minVersion: \"1.3\"");
    let refusal = client.clone().only(&TLS12).connect(strict.address(), TERMINATE).unwrap_err();
    assert!(format!("{refusal:#}").contains("ProtocolVersion"), "{refusal:#}");
    assert!(client.connect(strict.address(), TERMINATE).is_ok());
    let labels = [("outcome", "failed"), ("reason", "protocol_version")];
    strict.wait_for_metric("sni_terminator_handshakes_total", &labels, 1.0).unwrap();
}

#[test]
fn the_tenants_first_protocol_that_the_client_offers_is_negotiated() {
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let router = Terminated::new(&[TERMINATE], &[&certificate]).start("alpn: [h2, http/1.1]");
    let client = TlsClient::trusting(&authority).unwrap();
    let negotiated = |offered: &[&str]| {
        let stream = client.clone().with_alpn(offered).connect(router.address(), TERMINATE)?;
        anyhow::Ok(stream.conn.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()))
    };
    assert_eq!(negotiated(&["http/1.1", "h2"]).unwrap().as_deref(), Some("h2"));
    assert_eq!(negotiated(&["http/1.1"]).unwrap().as_deref(), Some("http/1.1"));
    assert_eq!(negotiated(&[]).unwrap(), None);
    let refusal = format!("{:#}", negotiated(&["smtp"]).unwrap_err());
    assert!(refusal.contains("NoApplicationProtocol"), "{refusal}");
}

fn shows(stream: &TlsStream, expected: &Identity) -> bool {
    stream.conn.peer_certificates().and_then(|chain| chain.first()) == Some(&expected.leaf())
}

/// A router with one terminated tenant.
struct Terminated {
    tenant: Tenant,
}

impl Terminated {
    fn new(hostnames: &[&str], certificates: &[&Identity]) -> Self {
        // Nobody in this module sends a request, so the backend may be gone when the connection is dialled.
        let backend = PlainHttp::start("acme").unwrap();
        let tenant = Tenant::passthrough("acme", hostnames, backend.address());
        Self { tenant: certificates.iter().fold(tenant, |tenant, certificate| tenant.certificate(certificate)) }
    }

    fn start(self, tls_line: &str) -> RouterProcess {
        RouterProcess::start(Setup::new().tenant(self.tenant.tls_line(tls_line))).unwrap()
    }
}
