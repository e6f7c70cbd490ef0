//! The clients that people use complete a request in both modes.

use tests::real_client::{RealClient, Request};
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;

use crate::two_tenants::{PASSTHROUGH, TERMINATE, TwoTenants};

#[test]
fn curl_speaks_to_both_tenants() {
    both_modes(RealClient::Curl);
}

#[test]
fn openssl_s_client_speaks_to_both_tenants() {
    both_modes(RealClient::OpenSsl);
}

#[test]
fn gnutls_cli_speaks_to_both_tenants() {
    both_modes(RealClient::GnuTls);
}

#[test]
fn a_go_client_speaks_to_both_tenants() {
    both_modes(RealClient::Go);
}

#[test]
fn chrome_speaks_to_both_tenants() {
    both_modes(RealClient::Chrome);
}

#[test]
fn firefox_speaks_to_both_tenants() {
    both_modes(RealClient::Firefox);
}

fn both_modes(client: RealClient) {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    let scratch = Scratch::new().unwrap();
    let authority = scratch.write("ca.crt", tenants.authority.pem()).unwrap();
    let identity = tenants.client.write_files(scratch.path(), "client").unwrap();
    let request = |name: &str| Request {
        router: router.address(),
        name: name.to_owned(),
        authority: authority.clone(),
        identity: (name == PASSTHROUGH).then(|| identity.clone()),
    };
    let Some(answer) = client.get(&request(PASSTHROUGH)).unwrap() else { return };
    assert!(answer.contains(&tenants.client.sha256()), "passthrough: {answer}");
    let Some(answer) = client.get(&request(TERMINATE)).unwrap() else { return };
    assert!(answer.contains(r#""backend":"acme""#), "terminate: {answer}");
    let metrics = router.metrics().unwrap();
    assert_eq!(metrics.sum("sni_terminator_handshakes_total", &[("tenant", "acme"), ("outcome", "ok")]), 1.0);
    assert_eq!(tenants.passthrough_backend.accepted(), 1);
    assert_eq!(tenants.terminate_backend.accepted(), 1);
}
