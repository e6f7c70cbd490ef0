//! Flows outlive the router, and nothing of them outlives the flows.

use std::fs;
use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::thread;

use anyhow::Context;
use nix::sys::signal::Signal;
use tests::patience::{PATIENCE, eventually};
use tests::processes::open_descriptors;
use tests::router_process::send_signal;

use super::site::{self, NAME, NAME_IPV6, PATHS, Plan, Site, Turn, client_with_pause};
use super::suite::plans;

#[test]
fn transfers_go_on_when_the_router_is_killed_and_the_next_one_logs_them() {
    let Some(site) = Site::new("a killed router", "CutThrough") else { return };
    let turns = [Turn::Together, Turn::ClientFirst, Turn::BackendFirst];
    let plans: Vec<_> = plans(TRANSFERS as u64, &turns, 5_000_000..=20_000_000).collect();
    let begin = Barrier::new(TRANSFERS + 1);
    site.at_client(|| {
        thread::scope(|scope| {
            let transfer = |plan: Plan| {
                let address = site.address();
                let begin = &begin;
                scope.spawn(move || client_with_pause(address, NAME, plan, || _ = begin.wait()))
            };
            let transfers: Vec<_> = plans.iter().copied().map(transfer).collect();
            eventually(PATIENCE, "the kernel has all transfers", || {
                let metrics = site.metrics();
                let all = metrics.sum(PATHS, &[("path", "cut_through")]) == TRANSFERS as f64;
                (all && metrics.sum("sni_router_cut_through_opening", &[]) == 0.0).then_some(())
            })
            .unwrap();
            let killed = site.router.router_pid().unwrap();
            begin.wait();
            send_signal(killed, Signal::SIGKILL).unwrap();
            let next =
                eventually(PATIENCE, "another router", || site.router.router_pid().ok().filter(|pid| *pid != killed));
            next.unwrap();
            site.network.router.run(|| site.router.wait_until_ready()).unwrap();
            // New connections work beside the old ones.
            let plan = Plan { number: 1, turn: Turn::BackendFirst, client_to_backend: 1000, backend_to_client: 1000 };
            site::client(site.address_ipv6(), NAME_IPV6, plan).unwrap();
            for (transfer, plan) in transfers.into_iter().zip(&plans) {
                transfer.join().unwrap().unwrap_or_else(|error| panic!("{plan:?}: {error}"));
            }
        });
    });
    let done = || (site.served.load(Ordering::Relaxed) == TRANSFERS as u64 + 1).then_some(());
    eventually(PATIENCE, "the backend has served all", done).unwrap();
    assert_eq!(*site.failures.lock().unwrap(), [] as [String; 0]);
    let logged = |site: &Site| {
        let lines = site.router.stdout().unwrap();
        lines.lines().filter(|line| line.contains("\"tenant\":\"four\"") && line.contains("cut_through")).count()
    };
    eventually(PATIENCE, "a line for each transfer", || (logged(&site) == TRANSFERS).then_some(())).unwrap();
    for line in site.router.stdout().unwrap().lines() {
        assert!(line.contains("\"outcome\":\"ok\""), "{line}");
    }
}

#[test]
fn short_connections_leave_nothing_behind_and_no_reset_is_sent() {
    let Some(site) = Site::new("a soak of short connections", "CutThrough") else { return };
    // A client that finishes before the switch is relayed, and a relay's host answers a packet that its CPU had put off
    // until the sockets were gone.
    let turns = [Turn::BackendFirst];
    // The first ones make whatever is made once.
    site.run(site.address(), NAME, 8, plans(100, &turns, 100..=2_000));
    let flows = |site: &Site| site.metrics().sum("sni_router_cut_through_flows", &[]);
    eventually(PATIENCE, "no flow is left", || (flows(&site) == 0.0).then_some(())).unwrap();
    let (descriptors, resets) = (descriptors(&site), resets(&site));
    site.run(site.address(), NAME, 16, plans(SHORT_CONNECTIONS, &turns, 100..=2_000));
    eventually(PATIENCE, "no flow is left", || (flows(&site) == 0.0).then_some(())).unwrap();
    assert_eq!(self::resets(&site), resets, "TcpOutRsts of the router");
    assert_eq!(self::descriptors(&site), descriptors);
    let metrics = site.metrics();
    let carried = metrics.sum(PATHS, &[("path", "cut_through")]);
    assert!(carried > SHORT_CONNECTIONS as f64 * 0.99, "{carried} of {SHORT_CONNECTIONS}");
}

/// The router's, without those of the scrape that asks.
fn descriptors(site: &Site) -> usize {
    let all = open_descriptors(site.router.router_pid().unwrap()).unwrap();
    all.iter().filter(|target| target.starts_with("socket:")).count()
}

/// RSTs that the router's host has sent.
fn resets(site: &Site) -> u64 {
    let read = || {
        let text = fs::read_to_string("/proc/thread-self/net/snmp")?;
        let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
        let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
        let position = names.split_whitespace().position(|name| name == "OutRsts").context("OutRsts")?;
        Ok(values.split_whitespace().nth(position).context("value")?.parse()?)
    };
    site.network.router.run(read).unwrap()
}

const TRANSFERS: usize = 500;
const SHORT_CONNECTIONS: u64 = 20_000;
