//! Passthrough keeps mutual TLS end to end.

use tests::fakes::Recorder;
use tests::hello::Hello;
use tests::raw_client::RawClient;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::{PASSTHROUGH, TwoTenants};

#[test]
fn the_backend_sees_the_clients_own_certificate() {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    let seen = tenants.tls_client().get(router.address(), PASSTHROUGH, "/").unwrap().json().unwrap();
    assert_eq!(seen["backend"], "pinniped");
    assert_eq!(seen["commonName"], "somebody");
    assert_eq!(seen["sha256"], tenants.client.sha256());
    assert_eq!(seen["serverName"], PASSTHROUGH);
}

#[test]
fn a_client_without_a_certificate_is_refused_by_the_backend_itself() {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    let nobody = TlsClient::trusting(&tenants.authority).unwrap();
    let refusal = format!("{:#}", nobody.get(router.address(), PASSTHROUGH, "/").unwrap_err());
    assert!(refusal.contains("CertificateRequired"), "{refusal}");
    assert_eq!(tenants.passthrough_backend.accepted(), 1);
}

#[test]
fn the_backend_receives_exactly_the_bytes_of_the_client() {
    let backend = Recorder::start().unwrap();
    let setup = Setup::new().tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], backend.address()));
    let router = RouterProcess::start(setup).unwrap();
    let mut sent = Hello::named(PASSTHROUGH).padded(1_500).records();
    sent.extend((0..=255).cycle().take(10_000));
    let client = RawClient::connect(router.address()).unwrap();
    client.send(&sent).unwrap();
    client.finish().unwrap();
    let recording = backend.recording().unwrap();
    assert!(recording.end.is_ok(), "{:?}", recording.end);
    assert!(recording.bytes == sent, "{} bytes sent, {} received", sent.len(), recording.bytes.len());
}
