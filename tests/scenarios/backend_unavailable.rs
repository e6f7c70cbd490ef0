//! A backend that cannot be reached is a failure that the client hears of at once.

use tests::authority::{Authority, KeyKind};
use tests::hello::Hello;
use tests::ports::free_address;
use tests::raw_client::{End, RawClient};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn passthrough_answers_with_internal_error() {
    let setup = Setup::new().tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], free_address().unwrap()));
    let router = RouterProcess::start(setup).unwrap();
    let client = RawClient::connect(router.address()).unwrap();
    client.send(&Hello::named(PASSTHROUGH).records()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.alert(), answer.end), (Some(INTERNAL_ERROR), End::Closed));
    let labels = [("tenant", "pinniped"), ("outcome", "backend_refused")];
    router.wait_for_metric("sni_router_connections_total", &labels, 1.0).unwrap();
}

#[test]
fn terminate_ends_the_connection_without_an_orderly_end() {
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let setup = Setup::new().tenant(Tenant::terminate("acme", &[TERMINATE], free_address().unwrap(), &certificate));
    let router = RouterProcess::start(setup).unwrap();
    let client = TlsClient::trusting(&authority).unwrap();
    let answer = client.get(router.address(), TERMINATE, "/");
    assert!(answer.is_err(), "{answer:?}");
}

/// RFC 8446 section 6.2.
const INTERNAL_ERROR: u8 = 80;
