//! An impersonation proxy with an external certificate behind Passthrough: who its clients are is its own business, by
//! certificate, and nobody on the way can read or change it.

use tests::authority::{Authority, KeyKind};
use tests::fakes::IdentityBackend;
use tests::real_client::{RealClient, Request};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

use crate::two_tenants::PASSTHROUGH;

/// kubectl is a Go program, so Go's client is the one that counts; the others are what people debug with.
const CLIENTS: [RealClient; 4] = [RealClient::Go, RealClient::Curl, RealClient::OpenSsl, RealClient::GnuTls];

#[test]
fn the_proxy_sees_each_clients_own_certificate_and_clients_see_the_proxys() {
    let (external, users, strangers) = (
        Authority::new("external CA").unwrap(),
        Authority::new("users").unwrap(),
        Authority::new("strangers").unwrap(),
    );
    let certificate = external.server(&[PASSTHROUGH], KeyKind::Ecdsa).unwrap();
    let proxy = IdentityBackend::start("impersonation proxy", &certificate, &users).unwrap();
    let setup = Setup::new().tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], proxy.address()));
    let router = RouterProcess::start(setup).unwrap();
    let scratch = router.folder().to_owned();
    let trusted = scratch.join("external.crt");
    std::fs::write(&trusted, external.pem()).unwrap();
    let wrong = scratch.join("wrong.crt");
    std::fs::write(&wrong, strangers.pem()).unwrap();

    let (alice, mallory) = (users.client("alice").unwrap(), strangers.client("alice").unwrap());
    let files = |identity: &tests::authority::Identity, name| identity.write_files(&scratch, name).unwrap();
    let request = Request {
        router: router.address(),
        name: PASSTHROUGH.to_owned(),
        authority: trusted,
        identity: Some(files(&alice, "alice")),
    };
    for client in CLIENTS {
        let Some(answer) = client.get(&request).unwrap() else { continue };
        for part in ["\"commonName\":\"alice\"", &alice.sha256(), "\"backend\":\"impersonation proxy\""] {
            assert!(answer.contains(part), "{client:?}: no {part} in {answer}");
        }
        // Each of these is decided by the two ends alone.
        for refused in [
            Request { identity: Some(files(&mallory, "mallory")), ..request.clone() },
            Request { identity: None, ..request.clone() },
            Request { authority: wrong.clone(), ..request.clone() },
        ] {
            assert!(client.get(&refused).is_err(), "{client:?}: {refused:?}");
        }
    }
    // The router has terminated nothing and refused nobody.
    let metrics = router.metrics().unwrap();
    let ended = |outcome| metrics.sum("sni_router_connections_total", &[("tenant", "pinniped"), ("outcome", outcome)]);
    assert!(ended("ok") >= CLIENTS.len() as f64);
    assert!(!metrics.has("sni_terminator_up", &[("tenant", "pinniped")]));
    assert_eq!(metrics.sum("sni_router_connections_total", &[("mode", "reject")]), 0.0);
}
