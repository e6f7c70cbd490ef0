//! A tenant over one of its limits gets an alert and a counter, and the other tenants notice nothing.

use std::thread;
use std::time::{Duration, Instant};

use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::raw_client::{End, RawClient};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

use crate::two_tenants::{PASSTHROUGH, TERMINATE, TwoTenants};

#[test]
fn passthrough_connections_have_a_bound_and_an_end_makes_room() {
    let scene = TwoTenants::start();
    let setup = limited(&scene, "limits: { maxConnections: 2 }", "");
    let router = RouterProcess::start(setup).unwrap();
    let client = scene.tls_client();
    let first = client.connect(router.address(), PASSTHROUGH).unwrap();
    let _second = client.connect(router.address(), PASSTHROUGH).unwrap();
    assert_refused(&router, PASSTHROUGH);
    assert_counted(&router, "pinniped", "max_connections", 1.0);
    assert_eq!(client.get(router.address(), TERMINATE, "/").unwrap().status, 200);

    drop(first);
    let again = || client.get(router.address(), PASSTHROUGH, "/").ok();
    assert_eq!(eventually(PATIENCE, "there is room", again).unwrap().status, 200);
}

#[test]
fn terminated_connections_have_a_bound_and_an_end_makes_room() {
    let scene = TwoTenants::start();
    let router = RouterProcess::start(limited(&scene, "", "limits: { maxConnections: 2 }")).unwrap();
    let client = scene.tls_client();
    let first = client.connect(router.address(), TERMINATE).unwrap();
    let _second = client.connect(router.address(), TERMINATE).unwrap();
    assert_refused(&router, TERMINATE);
    let labels = [("tenant", "acme"), ("reason", "max_connections")];
    router.wait_for_metric("sni_terminator_handshakes_total", &labels, 1.0).unwrap();
    drop(first);
    let again = || client.get(router.address(), TERMINATE, "/").ok();
    assert_eq!(eventually(PATIENCE, "there is room", again).unwrap().status, 200);
}

#[test]
fn new_connections_have_a_rate_in_both_modes() {
    let scene = TwoTenants::start();
    let limits = "limits: { connectionRate: 3 }";
    let router = RouterProcess::start(limited(&scene, limits, limits)).unwrap();
    for (name, tenant) in [(PASSTHROUGH, "pinniped"), (TERMINATE, "acme")] {
        let refused = flood(&router, name);
        assert!(refused > 0, "{name}: 100 connections at once, and none refused");
        assert_counted(&router, tenant, "connection_rate", f64::from(refused));
    }
}

#[test]
fn handshakes_have_a_rate() {
    let scene = TwoTenants::start();
    let router = RouterProcess::start(limited(&scene, "", "limits: { handshakeRate: 3 }")).unwrap();
    let refused = flood(&router, TERMINATE);
    assert!(refused > 0, "100 connections at once, and none refused");
    let labels = [("tenant", "acme"), ("reason", "handshake_rate")];
    router.wait_for_metric("sni_terminator_handshakes_total", &labels, f64::from(refused)).unwrap();
    assert_eq!(scene.tls_client().get(router.address(), PASSTHROUGH, "/").unwrap().status, 200);
}

/// What it costs the other tenant in time is for `cargo xtask bench flood`.
#[test]
fn a_flood_of_one_tenant_loses_nothing_of_another() {
    for (flooded, quiet, names) in
        [("pinniped", "acme", [PASSTHROUGH, TERMINATE]), ("acme", "pinniped", [TERMINATE, PASSTHROUGH])]
    {
        let scene = TwoTenants::start();
        let limits = format!("limits: {{ connectionRate: {LIMIT} }}");
        let line = |tenant| if tenant == flooded { &*limits } else { "" };
        let router = RouterProcess::start(limited(&scene, line("pinniped"), line("acme"))).unwrap();
        let client = scene.tls_client();
        let served = thread::scope(|scope| {
            let flood = scope.spawn(|| paced_flood(&router, names[0]));
            let mut served = 0;
            while !flood.is_finished() {
                assert_eq!(client.get(router.address(), names[1], "/").unwrap().status, 200);
                served += 1;
            }
            let refused = flood.join().unwrap();
            assert!(refused > 0, "{flooded}: ten times the limit, and none refused");
            assert_counted(&router, flooded, "connection_rate", f64::from(refused));
            served
        });
        let labels = [("tenant", quiet), ("outcome", "ok")];
        router.wait_for_metric("sni_router_connections_total", &labels, f64::from(served)).unwrap();
        let all = router.metrics().unwrap().sum("sni_router_connections_total", &[("tenant", quiet)]);
        assert_eq!(all, f64::from(served), "{quiet} has lost connections");
    }
}

fn limited(scene: &TwoTenants, pinniped: &str, acme: &str) -> Setup {
    let passthrough = Tenant::passthrough("pinniped", &[PASSTHROUGH], scene.passthrough_backend.address());
    let terminate = Tenant::terminate("acme", &[TERMINATE], scene.terminate_backend.address(), &scene.acme);
    Setup::new().tenant(passthrough.line(pinniped)).tenant(terminate.line(acme))
}

/// How many of many connections get the alert of a limit.
fn flood(router: &RouterProcess, name: &str) -> u32 {
    let hello = Hello::named(name).records();
    let clients: Vec<_> = (0..100).map(|_| RawClient::connect(router.address()).unwrap()).collect();
    clients.iter().for_each(|client| client.send(&hello).unwrap());
    clients.iter().for_each(|client| client.finish().unwrap());
    clients.iter().map(|client| u32::from(client.answer().alert() == Some(INTERNAL_ERROR))).sum()
}

/// Ten times the limit for three seconds; how many get the alert of a limit.
fn paced_flood(router: &RouterProcess, name: &str) -> u32 {
    let hello = Hello::named(name).records();
    let begin = Instant::now();
    let is_refused = |number: u32| {
        let planned = begin + Duration::from_secs(1) / (10 * LIMIT) * number;
        thread::sleep(planned.saturating_duration_since(Instant::now()));
        let client = RawClient::connect(router.address()).unwrap();
        client.send(&hello).unwrap();
        client.finish().unwrap();
        u32::from(client.answer().alert() == Some(INTERNAL_ERROR))
    };
    (0..30 * LIMIT).map(is_refused).sum()
}

fn assert_refused(router: &RouterProcess, name: &str) {
    let client = RawClient::connect(router.address()).unwrap();
    client.send(&Hello::named(name).records()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.alert(), answer.end), (Some(INTERNAL_ERROR), End::Closed));
}

fn assert_counted(router: &RouterProcess, tenant: &str, outcome: &str, count: f64) {
    let labels = [("tenant", tenant), ("outcome", outcome)];
    router.wait_for_metric("sni_router_connections_total", &labels, count).unwrap();
    assert_eq!(router.metrics().unwrap().sum("sni_router_connections_total", &labels), count);
}

/// New connections per second.
const LIMIT: u32 = 10;
/// RFC 8446 section 6.2.
const INTERNAL_ERROR: u8 = 80;
