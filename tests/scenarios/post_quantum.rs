//! Hellos with an X25519MLKEM768 key share, some 1,700 bytes, however they arrive.

use rustls::NamedGroup;
use tests::deliver::Delivery;
use tests::http;
use tests::router_process::RouterProcess;
use tests::tls_client::key_exchange;

use crate::two_tenants::{PASSTHROUGH, TERMINATE, TwoTenants};

#[test]
fn the_hello_is_longer_than_one_segment_of_an_ethernet() {
    let tenants = TwoTenants::start();
    let flight = tenants.tls_client().first_flight(PASSTHROUGH).unwrap();
    assert!(flight.len() > 1_400, "{} bytes", flight.len());
}

#[test]
fn it_is_routed_in_passthrough_however_it_arrives() {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    for how in Delivery::ALL {
        let mut stream = tenants.tls_client().connect_delivering(router.address(), PASSTHROUGH, how).unwrap();
        let seen = http::get(&mut stream, PASSTHROUGH, "/").unwrap().json().unwrap();
        assert_eq!(seen["keyExchange"], "X25519MLKEM768", "{how:?}");
        assert_eq!(seen["sha256"], tenants.client.sha256(), "{how:?}");
    }
}

#[test]
fn it_is_negotiated_in_terminate_however_it_arrives() {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    for how in Delivery::ALL {
        let mut stream = tenants.tls_client().connect_delivering(router.address(), TERMINATE, how).unwrap();
        assert_eq!(key_exchange(&stream), Some(NamedGroup::X25519MLKEM768), "{how:?}");
        let answer = http::get(&mut stream, TERMINATE, "/").unwrap().json().unwrap();
        assert_eq!(answer["backend"], "acme", "{how:?}");
    }
}

#[test]
fn a_classic_client_is_served_too() {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    let classic = tenants.tls_client().without_group(NamedGroup::X25519MLKEM768);
    let stream = classic.connect(router.address(), TERMINATE).unwrap();
    assert_eq!(key_exchange(&stream), Some(NamedGroup::X25519));
    let seen = classic.get(router.address(), PASSTHROUGH, "/").unwrap().json().unwrap();
    assert_eq!(seen["keyExchange"], "X25519");
}
