//! A RST is passed on as what it is: never as an orderly end.

use std::io::{ErrorKind, Read, Write};

use tests::authority::{Authority, KeyKind};
use tests::fakes::{Recorder, Resetting};
use tests::hello::Hello;
use tests::raw_client::{End, RawClient};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn a_clients_reset_reaches_the_passthrough_backend() {
    for data_path in DATA_PATHS {
        let backend = Recorder::start().unwrap();
        let router = RouterProcess::start(passthrough(data_path, backend.address())).unwrap();
        let client = RawClient::connect(router.address()).unwrap();
        client.send(&Hello::named(PASSTHROUGH).records()).unwrap();
        router.wait_for_metric("sni_router_connections_active", &[("tenant", "pinniped")], 1.0).unwrap();
        client.reset().unwrap();
        let recording = backend.recording().unwrap();
        let end = recording.end.expect_err("the backend took a reset for an orderly end");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{data_path}");
        ended(&router, "client_reset");
    }
}

#[test]
fn a_clients_reset_reaches_the_backend_after_the_backend_has_ended_its_direction() {
    for data_path in DATA_PATHS {
        let backend = Recorder::start_half_closing().unwrap();
        let router = RouterProcess::start(passthrough(data_path, backend.address())).unwrap();
        let client = RawClient::connect(router.address()).unwrap();
        client.send(&Hello::named(PASSTHROUGH).records()).unwrap();
        assert_eq!(client.answer().end, End::Closed);
        client.reset().unwrap();
        let end = backend.recording().unwrap().end.expect_err("the backend took a reset for an orderly end");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{data_path}");
        ended(&router, "client_reset");
    }
}

#[test]
fn a_passthrough_backends_reset_reaches_the_client() {
    for data_path in DATA_PATHS {
        let backend = Resetting::start().unwrap();
        let router = RouterProcess::start(passthrough(data_path, backend.address())).unwrap();
        let client = RawClient::connect(router.address()).unwrap();
        client.send(&Hello::named(PASSTHROUGH).records()).unwrap();
        let answer = client.answer();
        assert_eq!((answer.bytes.len(), answer.end), (0, End::Reset), "{data_path}");
        ended(&router, "backend_reset");
    }
}

#[test]
fn a_terminated_backends_reset_is_no_orderly_end_for_the_client() {
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let backend = Resetting::start().unwrap();
    let setup = Setup::new().tenant(Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate));
    let router = RouterProcess::start(setup).unwrap();
    let mut stream = TlsClient::trusting(&authority).unwrap().connect(router.address(), TERMINATE).unwrap();
    stream.write_all(b"anything").unwrap();
    stream.flush().unwrap();
    let end = stream.read(&mut [0; 16]);
    assert!(end.is_err(), "a reset looked like close_notify: {end:?}");
}

#[test]
fn a_terminated_clients_reset_reaches_the_backend() {
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let backend = Recorder::start().unwrap();
    let setup = Setup::new().tenant(Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate));
    let router = RouterProcess::start(setup).unwrap();
    let mut stream = TlsClient::trusting(&authority).unwrap().connect(router.address(), TERMINATE).unwrap();
    stream.write_all(b"half a request").unwrap();
    stream.flush().unwrap();
    router.wait_for_metric("sni_router_bytes_total", &[("direction", "client_to_backend")], 14.0).unwrap();
    RawClient::from(stream.sock).reset().unwrap();
    let recording = backend.recording().unwrap();
    assert_eq!(recording.bytes, b"half a request");
    let end = recording.end.expect_err("the backend took a reset for an orderly end");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

fn passthrough(data_path: &str, backend: std::net::SocketAddr) -> Setup {
    Setup::new().line(&format!("dataPath: {data_path}")).tenant(Tenant::passthrough(
        "pinniped",
        &[PASSTHROUGH],
        backend,
    ))
}

fn ended(router: &RouterProcess, outcome: &str) {
    router.wait_for_metric("sni_router_connections_total", &[("outcome", outcome)], 1.0).unwrap();
}

const DATA_PATHS: [&str; 2] = ["Splice", "Copy"];
