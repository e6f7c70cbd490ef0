//! A terminator that takes nothing: its hand-off socket is full, or as many descriptors are under way as may be.

use nix::sys::signal::Signal;
use tests::hello::Hello;
use tests::patience::PATIENCE;
use tests::raw_client::RawClient;
use tests::router_process::{send_signal, suspend};
use tests::shortage::{FewDescriptors, ensure_no_busy_loop};

use super::scene::{Scene, passthrough};
use crate::two_tenants::TERMINATE;

#[test]
fn a_full_socket_costs_those_who_wait_for_it_an_alert_and_nobody_else_anything() {
    let mut scene = Scene::start();
    // Many times what the socket's buffer takes.
    let waits = stopped(&mut scene, 600, || None);
    assert!(waits.sum("sni_router_handoff_waits_total", &[("tenant", "acme"), ("reason", "queue_full")]) >= 1.0);
}

#[test]
fn too_many_descriptors_under_way_are_waited_for() {
    let mut scene = Scene::start();
    let router = scene.router.router_pid().unwrap();
    // The limit of descriptors under way is that of open files, so fewer than the socket's buffer takes.
    let waits = stopped(&mut scene, 200, || Some(FewDescriptors::leave(router, 60).unwrap()));
    let labels = [("tenant", "acme"), ("reason", "too_many_under_way")];
    assert!(waits.sum("sni_router_handoff_waits_total", &labels) >= 1.0);
}

/// So many clients of a terminator that is stopped; the counters after it goes on.
fn stopped(
    scene: &mut Scene,
    clients: usize,
    limit: impl FnOnce() -> Option<FewDescriptors>,
) -> tests::metrics::Metrics {
    let (router, terminator) = (scene.router.router_pid().unwrap(), scene.router.terminator_pid("acme").unwrap());
    suspend(terminator).unwrap();
    let limit = limit();
    let hello = Hello::named(TERMINATE).records();
    let waiting: Vec<_> = (0..clients)
        .map(|_| {
            let client = RawClient::connect(scene.router.address()).unwrap();
            client.send(&hello).unwrap();
            client
        })
        .collect();
    ensure_no_busy_loop(router).unwrap();
    if limit.is_none() {
        passthrough(scene.router.address()).unwrap();
    }
    // Nobody waits longer than two seconds for a terminator, so the last ones have their alerts.
    let last = waiting.last().unwrap();
    last.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(last.answer().alert(), Some(INTERNAL_ERROR));
    let labels = [("tenant", "acme"), ("outcome", "terminator_unavailable")];
    drop(limit);
    scene.assert_counted("sni_router_connections_total", &labels);
    drop(waiting);
    send_signal(terminator, Signal::SIGCONT).unwrap();
    scene.assert_recovered();
    assert_eq!(scene.router.terminator_pid("acme").unwrap(), terminator);
    scene.router.metrics().unwrap()
}

/// RFC 8446 section 6.2.
const INTERNAL_ERROR: u8 = 80;
