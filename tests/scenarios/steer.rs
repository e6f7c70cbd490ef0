//! Prefixes and port ranges that nobody bound reach the router's listeners, in network namespaces of their own.

mod hand_over;
mod reload;
mod site;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};

use nix::sys::signal::Signal;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use tests::patience::{PATIENCE, eventually};
use tests::processes::status;
use tests::raw_client::RawClient;
use tests::router_process::{RouterProcess, send_signal};

use self::site::{Greeting, Site, greet, setup};

#[test]
fn ten_thousand_ports_of_a_prefix_are_spread_over_the_workers() {
    let Some(site) = Site::new("steering") else { return };
    let setup = setup(&site)
        .line("workers: 4")
        .line("accessLog: { path: \"-\", format: Json }")
        .listener_line("steer: [\"10.99.0.0/16:20000-29999\", \"[fd99::/64]:443\", \"[fd99::/64]:20000-29999\"]");
    let router = site.start(setup);

    site.at_client(|| {
        for (index, port) in (0..).zip(20_000..=29_999) {
            let address = IpAddr::from([10, 99, (index * 37 % 256) as u8, (index % 256) as u8]);
            assert_eq!(greet((address, port).into()), Greeting::Echoed, "{address}:{port}");
        }
        for index in 0..500_u16 {
            let address = IpAddr::from([0xfd99, 0, 0, 0, index, 0, 0, index * 97]);
            assert_eq!(greet((address, 20_000 + index * 19).into()), Greeting::Echoed, "{address}");
            assert_eq!(greet((address, 443).into()), Greeting::Echoed, "{address}");
        }
        for outside in ["10.99.0.1:19999", "10.99.0.1:30000", "[fd99::1]:444", "10.0.1.1:20000"] {
            assert_eq!(greet(outside.parse().unwrap()), Greeting::Refused, "{outside}");
        }
    });

    let metrics = site.metrics(&router);
    let verdict = |verdict| metrics.sum(VERDICTS, &[("program", "steer"), ("verdict", verdict)]);
    assert_eq!((verdict("steered"), verdict("denied"), verdict("no_socket")), (11_000.0, 0.0, 0.0));
    assert!(verdict("unmatched") >= 4.0);
    assert_eq!(metrics.sum("sni_router_ebpf_up", &[("program", "steer"), ("reason", "")]), 1.0);
    let by_worker = eventually(PATIENCE, "a line for each connection", || {
        let by_worker = connections_by_worker(&router.stdout().unwrap());
        (by_worker.values().sum::<u32>() == 11_000).then_some(by_worker)
    })
    .unwrap();
    assert_eq!(by_worker.len(), 4, "{by_worker:?}");
    assert!(by_worker.values().all(|&count| (2_000..3_500).contains(&count)), "{by_worker:?}");
    let status = status(router.router_pid().unwrap()).unwrap();
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status.capabilities(set).unwrap(), 0, "steering goes on without {set}");
    }
}

#[test]
fn denied_sources_are_refused_at_their_syn() {
    let Some(site) = Site::new("refusing in the kernel") else { return };
    let setup = setup(&site)
        .listener_line("steer: [\"10.99.0.0/16:443\", \"[fd99::/64]:443\"]")
        .listener_line("clients: { deny: [\"10.0.1.2/31\", \"fd00::102/128\"] }");
    let router = site.start(setup);
    let bound = router.address().port();
    site.network.client.ip("addr add 10.0.1.77/24 dev to-router\naddr add fd00::177/64 dev to-router nodad").unwrap();
    let (steered, steered_ipv6) = ("10.99.3.4:443".parse().unwrap(), "[fd99::7]:443".parse().unwrap());
    let own = SocketAddr::from((site.network.router.address(), bound));

    site.at_client(|| {
        for denied in [steered, own] {
            assert_eq!(site::greet_from("10.0.1.2".parse().unwrap(), denied), Greeting::Refused, "{denied}");
            assert_eq!(site::greet_from("10.0.1.77".parse().unwrap(), denied), Greeting::Echoed, "{denied}");
        }
        assert_eq!(site::greet_from("fd00::102".parse().unwrap(), steered_ipv6), Greeting::Refused);
        assert_eq!(site::greet_from("fd00::177".parse().unwrap(), steered_ipv6), Greeting::Echoed);
    });

    let metrics = site.metrics(&router);
    let verdict = |verdict| metrics.sum(VERDICTS, &[("program", "steer"), ("verdict", verdict)]);
    assert_eq!((verdict("denied"), verdict("steered")), (3.0, 2.0));
    assert!(verdict("bound") >= 1.0, "the scrapes go to a bound address too");
    assert_eq!(site.echo.accepted(), 3, "what is refused reaches nobody");
}

#[test]
fn without_the_capabilities_bound_addresses_are_served_and_one_line_says_why_the_others_are_not() {
    let Some(site) = Site::new("a router without CAP_BPF") else { return };
    let setup = setup(&site).listener_line("steer: [\"10.99.0.0/16:443\"]");
    let router = site
        .network
        .router
        .run(|| {
            // CAP_SYS_ADMIN includes CAP_BPF (include/linux/capability.h, bpf_capable).
            remove_capability_from_bounding_set(CapabilitySet::BPF)?;
            remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN)?;
            RouterProcess::start(setup)
        })
        .unwrap();
    let own = SocketAddr::from((site.network.router.address(), router.address().port()));

    site.at_client(|| {
        assert_eq!(greet(own), Greeting::Echoed);
        assert_eq!(greet("10.99.0.1:443".parse().unwrap()), Greeting::Refused);
    });
    let metrics = site.metrics(&router);
    assert!(metrics.has("sni_router_ebpf_up", &[("program", "steer"), ("reason", "not_permitted")]));
    assert_eq!(metrics.sum("sni_router_ebpf_up", &[("program", "steer")]), 0.0);
    assert!(!metrics.has(VERDICTS, &[]));
    let lines = router.log().with(&["steer"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("CAP_BPF"), "{lines:?}");
}

#[test]
fn a_router_that_is_started_again_after_a_crash_steers_at_once() {
    let Some(site) = Site::new("steering after a crash") else { return };
    let router = site.start(setup(&site).listener_line("steer: [\"10.99.0.0/16:443\"]"));
    let steered: SocketAddr = "10.99.0.1:443".parse().unwrap();
    let killed = router.router_pid().unwrap();
    assert_eq!(site.at_client(|| greet(steered)), Greeting::Echoed);

    send_signal(killed, Signal::SIGKILL).unwrap();
    router.log().wait_for(PATIENCE, &["steer", "took over"]).unwrap();
    site.at_client(|| {
        eventually(PATIENCE, "the new router is reached", || (greet(steered) == Greeting::Echoed).then_some(()))
            .unwrap();
    });
    assert_ne!(router.router_pid().unwrap(), killed);
}

#[test]
fn a_router_that_has_ended_steers_and_refuses_no_more() {
    let Some(site) = Site::new("the end of steering") else { return };
    let setup = setup(&site)
        .listener_line("steer: [\"10.99.0.0/16:443\"]")
        .listener_line("clients: { deny: [\"10.0.1.2/32\"] }");
    let mut router = site.start(setup);
    let steered: SocketAddr = "10.99.0.1:443".parse().unwrap();
    assert_eq!(site.at_client(|| greet(steered)), Greeting::Refused);

    router.signal(Signal::SIGTERM).unwrap();
    assert!(router.wait_for_exit(PATIENCE).unwrap().success());
    let listener = site.network.router.run(|| Ok(TcpListener::bind(steered)?)).unwrap();
    site.at_client(|| drop(RawClient::connect(steered).unwrap()));
    drop(listener);
}

/// How many lines of the access log each worker wrote; the worker is the fourth byte of the id.
fn connections_by_worker(log: &str) -> BTreeMap<String, u32> {
    let mut by_worker = BTreeMap::new();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        *by_worker.entry(line["id"].as_str().unwrap()[6..8].to_owned()).or_default() += 1;
    }
    by_worker
}

const VERDICTS: &str = "sni_router_ebpf_verdicts_total";
