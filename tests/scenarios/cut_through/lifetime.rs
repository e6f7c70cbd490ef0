//! Flows outlive the router, and nothing of them outlives the flows.

use std::fs;
use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::patience::{PATIENCE, eventually};
use tests::processes::{open_descriptors, proportional_set_size};
use tests::router_process::send_signal;

use super::lines;
use super::plan::{self, Plan, Turn, client_with_pause};
use super::site::{FALLBACKS, NAME, NAME_IPV6, PATHS, Site};
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
            plan::client(site.address_ipv6(), NAME_IPV6, plan).unwrap();
            for (transfer, plan) in transfers.into_iter().zip(&plans) {
                transfer.join().unwrap().unwrap_or_else(|error| panic!("{plan:?}: {error}"));
            }
        });
    });
    let done = || (site.served.load(Ordering::Relaxed) == TRANSFERS as u64 + 1).then_some(());
    eventually(PATIENCE, "the backend has served all", done).unwrap();
    assert_eq!(*site.failures.lock().unwrap(), [] as [String; 0]);
    lines::expect(|| site.router.stdout(), &plans);
    for line in site.router.stdout().unwrap().lines() {
        assert!(line.contains("\"outcome\":\"ok\""), "{line}");
    }
}

/// `cargo xtask soak` runs it alone and with more connections, and then it looks at the kernel's memory too.
#[test]
fn short_connections_leave_nothing_behind_and_no_reset_is_sent() {
    let Some(site) = Site::new("a soak of short connections", "CutThrough") else { return };
    let soak = std::env::var("SNI_ROUTER_SOAK").ok().map(|connections| connections.parse::<u64>().unwrap());
    let connections = soak.unwrap_or(SHORT_CONNECTIONS);
    // A client that finishes before the switch is relayed, and a relay's host answers a packet that its CPU had put off
    // until the sockets were gone.
    let turns = [Turn::BackendFirst];
    // The first ones make whatever is made once.
    site.run(site.address(), NAME, 16, plans(FIRST, &turns, 100..=2_000));
    wait_for_no_flow(&site);
    // No scrape from here to the second look: the connections of the scrapes, over loopback, end with a RST of this host.
    let before = Resources::of(&site);
    thread::sleep(LINGER);
    let before = Resources { resets: resets(&site), ..before };
    let begin = Instant::now();
    site.run(site.address(), NAME, 16, plans(connections, &turns, 100..=2_000));
    let took = begin.elapsed();
    let lines = || (site.router.stdout().ok()?.lines().count() as u64 == connections + FIRST).then_some(());
    eventually(PATIENCE, "a line of the access log for each connection", lines).unwrap();
    thread::sleep(LINGER);
    let sent = resets(&site);
    wait_for_no_flow(&site);
    let after = Resources { resets: sent, ..Resources::of(&site) };
    assert_eq!(after.resets, before.resets, "TcpOutRsts of the router\n{}\n{}", before.aborts, after.aborts);
    assert_eq!(after.descriptors, before.descriptors);
    let metrics = site.metrics();
    let carried = metrics.sum(PATHS, &[("path", "cut_through")]);
    assert!(carried > connections as f64 * 0.99, "{carried} of {connections}");
    assert_eq!(metrics.sum(FALLBACKS, &[("reason", "no_port")]), 0.0, "ports came back");
    assert_eq!(metrics.sum(FALLBACKS, &[("reason", "map_full")]), 0.0, "places came back");
    let grown = after.memory.saturating_sub(before.memory);
    assert!(grown < TABLE + (8 << 20), "the router has grown by {grown} bytes");
    if soak.is_some() {
        // Other tests at the same time would have sockets of their own.
        let settled = || (Resources::of(&site).kernel_sockets <= before.kernel_sockets + 100).then_some(());
        let limit = PATIENCE + TIME_WAIT;
        let waited = eventually(limit, "the kernel's sockets are gone", settled);
        waited.with_context(|| format!("{before:?}\n{:?}", Resources::of(&site))).unwrap();
        println!("{connections} connections in {took:.1?}, {carried} of them carried by the kernel, 0 resets sent");
        println!("before: {before:?}\nafter:  {:?}", Resources::of(&site));
    }
    // Whoever comes next finds every key that was left in the map.
    let killed = site.router.router_pid().unwrap();
    send_signal(killed, Signal::SIGKILL).unwrap();
    eventually(PATIENCE, "another router", || site.router.router_pid().ok().filter(|pid| *pid != killed)).unwrap();
    site.network.router.run(|| site.router.wait_until_ready()).unwrap();
    let both = || (site.router.log().with(&["cut-through", "adopted="]).len() == 2).then_some(());
    eventually(PATIENCE, "both routers have said what they adopted", both).unwrap();
    assert_eq!(site.router.log().with(&["cut-through", "adopted=0"]).len(), 2);
}

fn wait_for_no_flow(site: &Site) {
    let flows = || (site.metrics().sum("sni_router_cut_through_flows", &[]) == 0.0).then_some(());
    eventually(PATIENCE, "no flow is left", flows).unwrap();
}

/// What connections use up.
#[derive(Debug)]
struct Resources {
    /// RSTs that the router's host has sent.
    resets: u64,
    /// What the host's TCP counts of connections that it gave up.
    aborts: String,
    /// The router's sockets.
    descriptors: usize,
    /// The router's memory in bytes.
    memory: u64,
    /// Sockets, half-open ones and those in TIME_WAIT, in all of the kernel.
    kernel_sockets: u64,
}

impl Resources {
    fn of(site: &Site) -> Self {
        let router = site.router.router_pid().unwrap();
        Self {
            resets: resets(site),
            aborts: aborts(site),
            descriptors: descriptors(site),
            memory: proportional_set_size(router).unwrap(),
            kernel_sockets: kernel_sockets().unwrap(),
        }
    }
}

/// Objects in use in the slab caches of TCP (slabinfo(5)).
fn kernel_sockets() -> Result<u64> {
    let text = fs::read_to_string("/proc/slabinfo").context("read /proc/slabinfo")?;
    let of_tcp = |name: &str| matches!(name, "TCP" | "TCPv6" | "sock_inode_cache") || name.ends_with("sock_TCP");
    let counts = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        if of_tcp(fields.next()?) { fields.next()?.parse::<u64>().ok() } else { None }
    });
    Ok(counts.sum())
}

/// The router's, without those of the scrape that asks.
fn descriptors(site: &Site) -> usize {
    let all = open_descriptors(site.router.router_pid().unwrap()).unwrap();
    all.iter().filter(|target| target.starts_with("socket:")).count()
}

/// To tell where a RST came from that should not have been sent.
fn aborts(site: &Site) -> String {
    let read = || {
        let text = fs::read_to_string("/proc/thread-self/net/netstat")?;
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
        let pairs = names.split_whitespace().zip(values.split_whitespace()).skip(1);
        let told = pairs.filter(|(name, value)| *value != "0" && !name.contains("HP") && !name.contains("Auto"));
        Ok(told.map(|(name, value)| format!("{name}={value} ")).collect())
    };
    site.network.router.run(read).unwrap()
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
const FIRST: u64 = 1_000;
const SHORT_CONNECTIONS: u64 = 20_000;
/// Longer than the router keeps the keys of a flow that is over, so that what comes later would be answered with a RST.
const LINGER: Duration = Duration::from_secs(4);
/// TCP_TIMEWAIT_LEN (include/net/tcp.h).
const TIME_WAIT: Duration = Duration::from_secs(60);
/// The mapped table of flows, 65,536 of 320 bytes: its places take turns, and what was touched counts as the router's.
const TABLE: u64 = 20 << 20;
