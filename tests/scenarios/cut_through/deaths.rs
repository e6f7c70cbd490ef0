//! Ends that vanish without a word, ends that say nothing, and a router that dies while it still owes the backend bytes.

use std::sync::atomic::Ordering;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::router_process::send_signal;

use super::loss::tc;
use super::plan::{Plan, Turn, expect_reset};
use super::site::{NAME, PATHS, Site, open};

#[test]
fn a_client_that_vanishes_under_cut_through() {
    silent("CutThrough", "cut_through", Gone::Client);
}

#[test]
fn a_client_that_vanishes_under_the_relay() {
    silent("Copy", "copy", Gone::Client);
}

#[test]
fn a_backend_that_vanishes_under_cut_through() {
    silent("CutThrough", "cut_through", Gone::Backend);
}

#[test]
fn a_backend_that_vanishes_under_the_relay() {
    silent("Copy", "copy", Gone::Backend);
}

#[test]
fn two_ends_that_are_silent_under_cut_through() {
    silent("CutThrough", "cut_through", Gone::Nobody);
}

#[test]
fn two_ends_that_are_silent_under_the_relay() {
    silent("Copy", "copy", Gone::Nobody);
}

#[test]
fn a_router_that_dies_before_the_backend_has_the_hello_ends_the_connection() {
    // Handshakes pass and payload does not: longer than 100 bytes (BPF_LEN and BPF_JGT of classic BPF).
    dead_while_opening("ingress", "4,128 0 0 0,37 0 1 100,6 0 0 2,6 0 0 0");
}

#[test]
fn a_router_that_dies_before_it_knows_of_the_backends_acknowledgement_ends_the_connection() {
    // The backend's bare acknowledgements get lost (a byte of the packet and BPF_JEQ of classic BPF; TCP's flags).
    dead_while_opening("egress", "4,48 0 0 47,21 0 1 16,6 0 0 2,6 0 0 0");
}

/// The router is killed while it owes the backend hellos, for all it knows: `program` drops what would tell it otherwise,
/// where packets arrive at the backend or where they leave.
fn dead_while_opening(hook: &str, program: &str) {
    let Some(site) = Site::new("a crash inside the hello window", "CutThrough") else { return };
    tc(&site.network.backend, &["qdisc", "add", "dev", "to-router", "clsact"]);
    let filter = ["filter", "add", "dev", "to-router", hook, "bpf", "da", "bytecode", program];
    tc(&site.network.backend, &filter);
    let hello = Hello::named(NAME).padded(500).records();
    let ends = site.at_client(|| open(site.address(), &hello, CONNECTIONS)).unwrap();
    eventually(PATIENCE, "the flows are opening", || {
        let opening = site.metrics().sum("sni_router_cut_through_opening", &[]);
        (opening == CONNECTIONS as f64).then_some(())
    })
    .unwrap();
    let killed = site.router.router_pid().unwrap();
    send_signal(killed, Signal::SIGKILL).unwrap();
    // Nobody says anything: the next process ends what its predecessor could not bring to the backend.
    for end in &ends {
        expect_reset(end).unwrap();
    }
    eventually(PATIENCE, "the backend hears of all of them", || {
        (site.failures.lock().unwrap().len() == CONNECTIONS).then_some(())
    })
    .unwrap();
    let failures = std::mem::take(&mut *site.failures.lock().unwrap());
    assert!(failures.iter().all(|failure| failure.contains("reset by peer")), "{failures:#?}");

    tc(&site.network.backend, &["filter", "del", "dev", "to-router", hook]);
    site.network.router.run(|| site.router.wait_until_ready()).unwrap();
    let plan = Plan { number: 1, turn: Turn::BackendFirst, client_to_backend: 1000, backend_to_client: 1000 };
    site.run(site.address(), NAME, 1, std::iter::once(plan));
    wait_for_no_flow(&site);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gone {
    Client,
    Backend,
    Nobody,
}

/// Connections on which nothing moves end after the idle time-out, with a RST for whoever is there to hear it.
fn silent(data_path: &str, path: &str, gone: Gone) {
    let site = Site::with_tenants(
        "silent ends",
        |setup| setup.line(&format!("dataPath: {data_path}")),
        |tenant| tenant.line("idleTimeout: 2s"),
    );
    let Some(site) = site else { return };
    let plan = Plan { number: 1, turn: Turn::ClientFirst, client_to_backend: 1000, backend_to_client: 1000 };
    let beginning = [&Hello::named(NAME).records()[..], &plan.encode()].concat();
    let ends = site.at_client(|| open(site.address(), &beginning, CONNECTIONS)).unwrap();
    let accepted = || (site.accepted() == CONNECTIONS as u64).then_some(());
    eventually(PATIENCE, "the backend has accepted all", accepted).unwrap();
    if path == "cut_through" {
        site.wait_until_carried(CONNECTIONS as u64);
    }
    match gone {
        Gone::Client => site.network.client.ip("link set to-router down").unwrap(),
        Gone::Backend => site.network.backend.ip("link set to-router down").unwrap(),
        Gone::Nobody => {}
    }
    if gone != Gone::Client {
        for end in &ends {
            expect_reset(end).unwrap();
        }
    }
    if gone != Gone::Backend {
        let heard = || (site.failures.lock().unwrap().len() == CONNECTIONS).then_some(());
        eventually(PATIENCE, "the backend hears of all ends", heard).unwrap();
        let failures = site.failures.lock().unwrap();
        assert!(failures.iter().all(|failure| failure.contains("reset by peer")), "{failures:#?}");
    }
    assert_eq!(site.served.load(Ordering::Relaxed), 0);
    let lines = || {
        let text = site.router.stdout().unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() == CONNECTIONS).then_some(lines)
    };
    for line in eventually(PATIENCE, "a line of the access log for each", lines).unwrap() {
        assert_eq!((&line["outcome"], &line["data_path"]), (&"idle_timeout".into(), &path.into()), "{line}");
    }
    if path == "cut_through" {
        wait_for_no_flow(&site);
    }
    assert_eq!(site.metrics().sum(PATHS, &[("path", path)]), CONNECTIONS as f64);
}

fn wait_for_no_flow(site: &Site) {
    let flows = || (site.metrics().sum("sni_router_cut_through_flows", &[]) == 0.0).then_some(());
    eventually(PATIENCE, "no flow is left", flows).unwrap();
}

const CONNECTIONS: usize = 20;
