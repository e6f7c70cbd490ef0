//! EMFILE: the limit of open files is reached.

use tests::hello::Hello;
use tests::patience::PATIENCE;
use tests::raw_client::RawClient;
use tests::shortage::{FewDescriptors, ensure_no_busy_loop};

use super::scene::{Scene, terminated};
use crate::two_tenants::PASSTHROUGH;

#[test]
fn a_router_without_descriptors_lets_connections_wait_and_serves_all_of_them_later() {
    let mut scene = Scene::start();
    let router = scene.router.router_pid().unwrap();
    let hello = Hello::named(PASSTHROUGH).records();
    let (begin, rest) = hello.split_at(50);
    let few = FewDescriptors::leave(router, 10).unwrap();
    // Half a hello keeps what it has got.
    let waiting: Vec<_> = (0..40)
        .map(|_| {
            let client = RawClient::connect(scene.router.address()).unwrap();
            client.send(begin).unwrap();
            client
        })
        .collect();
    scene.router.log().wait_for(PATIENCE, &["accept: short of resources"]).unwrap();
    ensure_no_busy_loop(router).unwrap();
    scene.ping_established();
    assert_eq!(scene.router.log().with(&["accept: short of resources"]).len(), 1, "one line for one shortage");

    drop(few);
    for client in &waiting {
        client.send(rest).unwrap();
        assert_eq!(client.read(hello.len()).unwrap(), hello);
    }
    scene.assert_counted("sni_router_accept_errors_total", &[("reason", "no_descriptors")]);
    scene.assert_recovered();
}

#[test]
fn a_router_without_a_descriptor_for_the_backend_says_so_to_the_client() {
    let mut scene = Scene::start();
    let router = scene.router.router_pid().unwrap();
    let few = FewDescriptors::leave(router, 1).unwrap();
    scene.until_an_alert(PASSTHROUGH);
    scene.ping_established();
    drop(few);
    scene.assert_counted("sni_router_connections_total", &[("tenant", "pinniped"), ("outcome", "no_descriptors")]);
    scene.assert_recovered();
}

#[test]
fn a_terminator_without_descriptors_loses_what_it_is_given_and_nothing_else() {
    let mut scene = Scene::start();
    let terminator = scene.router.terminator_pid("acme").unwrap();
    let few = FewDescriptors::leave(terminator, 0).unwrap();
    for _ in 0..5 {
        assert!(terminated(&scene.client, scene.router.address()).is_err());
    }
    ensure_no_busy_loop(terminator).unwrap();
    scene.ping_established();
    assert_eq!(scene.router.log().with(&["hand-offs are lost"]).len(), 1, "one line for one shortage");
    drop(few);
    scene.assert_counted("sni_terminator_connections_total", &[("tenant", "acme"), ("outcome", "no_descriptors")]);
    scene.assert_recovered();
    assert_eq!(scene.router.terminator_pid("acme").unwrap(), terminator);
}

#[test]
fn a_terminator_without_a_descriptor_for_the_backend_counts_that() {
    let mut scene = Scene::start();
    let terminator = scene.router.terminator_pid("acme").unwrap();
    let few = FewDescriptors::leave(terminator, 1).unwrap();
    for _ in 0..5 {
        assert!(terminated(&scene.client, scene.router.address()).is_err());
    }
    scene.ping_established();
    drop(few);
    scene.assert_counted("sni_terminator_connections_total", &[("tenant", "acme"), ("outcome", "no_descriptors")]);
    scene.assert_recovered();
}
