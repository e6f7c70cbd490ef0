//! The fakes and clients without a router between them: what fails here is no fault of the router.

use tests::authority::{Authority, KeyKind};
use tests::fakes::IdentityBackend;
use tests::real_client::{RealClient, Request};
use tests::scratch::Scratch;
use tests::tls_client::TlsClient;

#[test]
fn the_identity_backend_names_the_client() {
    let authority = Authority::new("test CA").unwrap();
    let client = authority.client("somebody").unwrap();
    let server = authority.server(&["k8s.test"], KeyKind::Ecdsa).unwrap();
    let backend = IdentityBackend::start("pinniped", &server, &authority).unwrap();
    let seen = TlsClient::trusting(&authority)
        .unwrap()
        .with_identity(&client)
        .get(backend.address(), "k8s.test", "/")
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(seen["commonName"], "somebody");
    assert_eq!(seen["sha256"], client.sha256());
    assert_eq!(seen["serverName"], "k8s.test");
}

#[test]
fn every_real_client_shows_its_certificate() {
    let authority = Authority::new("test CA").unwrap();
    let client = authority.client("somebody").unwrap();
    let server = authority.server(&["k8s.test"], KeyKind::Ecdsa).unwrap();
    let backend = IdentityBackend::start("pinniped", &server, &authority).unwrap();
    let scratch = Scratch::new().unwrap();
    let request = Request {
        router: backend.address(),
        name: "k8s.test".to_owned(),
        authority: scratch.write("ca.crt", authority.pem()).unwrap(),
        identity: Some(client.write_files(scratch.path(), "client").unwrap()),
    };
    for kind in RealClient::ALL {
        let Some(answer) = kind.get(&request).unwrap() else { continue };
        assert!(answer.contains(&client.sha256()), "{kind:?} got {answer}");
    }
}
