//! Firewalls and address translation on the router's own host: what the programs would not recognise is relayed, and the
//! table of tracked connections holds nothing of what the kernel carries.

use std::fs;
use std::sync::Barrier;
use std::thread;

use tests::client_tools::{Tool, require};
use tests::network::{Network, Place};
use tests::patience::{PATIENCE, eventually};
use tests::setup::Setup;

use super::plan::{self, Plan, Turn};
use super::site::{FALLBACKS, NAME, NAME_IPV6, PATHS, Site};
use super::suite::plans;

#[test]
fn clients_that_reach_the_router_by_another_address() {
    let prepare = |network: &Network| {
        nft(&network.router, "prerouting", "dstnat", "ip daddr 10.99.0.1 dnat ip to 10.0.1.1");
        nft(&network.router, "prerouting", "dstnat", "ip6 daddr fd99::1 dnat ip6 to fd00::101");
    };
    let Some(site) = site("DNAT before the router", prepare) else { return };
    let port = site.router.address().port();
    site.run(([10, 99, 0, 1], port).into(), NAME, 2, plans(6, &TURNS, SIZES));
    site.run(
        (std::net::Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1), port).into(),
        NAME_IPV6,
        2,
        plans(6, &TURNS, SIZES),
    );
    relayed(&site, "client_not_seen", 12);
    // The same client without the detour, from ports that it had used.
    site.run(site.address(), NAME, 2, plans(6, &TURNS, SIZES));
    assert_eq!(site.metrics().sum(PATHS, &[("path", "cut_through")]), 6.0);
}

#[test]
fn backends_that_are_reached_by_another_address() {
    let prepare = |network: &Network| {
        network.backend.ip("addr add 10.0.2.3/24 dev to-router\naddr add fd00::203/120 dev to-router nodad").unwrap();
        nft(&network.router, "output", "dstnat", "ip daddr 10.0.2.2 dnat ip to 10.0.2.3");
        nft(&network.router, "output", "dstnat", "ip6 daddr fd00::202 dnat ip6 to fd00::203");
        nft(&network.backend, "prerouting", "dstnat", "ip daddr 10.0.2.3 dnat ip to 10.0.2.2");
        nft(&network.backend, "prerouting", "dstnat", "ip6 daddr fd00::203 dnat ip6 to fd00::202");
    };
    let Some(site) = site("DNAT before the backend", prepare) else { return };
    both_families(&site);
    relayed(&site, "backend_not_seen", 12);
}

#[test]
fn a_router_that_backends_know_by_another_address() {
    let prepare = |network: &Network| {
        network
            .router
            .ip("addr add 10.0.2.9/24 dev to-backend\naddr add fd00::209/120 dev to-backend nodad preferred_lft 0")
            .unwrap();
        nft(&network.router, "postrouting", "srcnat", "ip daddr 10.0.2.2 snat ip to 10.0.2.9");
        nft(&network.router, "postrouting", "srcnat", "ip6 daddr fd00::202 snat ip6 to fd00::209");
    };
    let Some(site) = site("SNAT behind the router", prepare) else { return };
    both_families(&site);
    relayed(&site, "backend_not_seen", 12);
}

#[test]
fn a_translation_that_changes_nothing_changes_nothing() {
    let prepare = |network: &Network| nft(&network.router, "postrouting", "srcnat", "masquerade");
    let Some(site) = site("masquerading", prepare) else { return };
    both_families(&site);
    site.assert_path("cut_through", 12);
}

#[test]
fn carried_connections_are_not_tracked() {
    let prepare = |network: &Network| {
        for chain in ["input", "output"] {
            nft(&network.router, chain, "filter", "ct state invalid drop");
        }
    };
    let Some(site) = site("conntrack", prepare) else { return };
    let begin = Barrier::new(CONNECTIONS + 1);
    let plans: Vec<_> = plans(CONNECTIONS as u64, &TURNS, SIZES).collect();
    site.at_client(|| {
        thread::scope(|scope| {
            let connection = |plan: Plan| {
                let (to, name) = if plan.number.is_multiple_of(2) {
                    (site.address(), NAME)
                } else {
                    (site.address_ipv6(), NAME_IPV6)
                };
                let begin = &begin;
                scope.spawn(move || plan::client_with_pause(to, name, plan, || _ = begin.wait()))
            };
            let connections: Vec<_> = plans.iter().copied().map(connection).collect();
            let carried = eventually(PATIENCE, "the kernel has all connections", || {
                let metrics = site.metrics();
                let all = metrics.sum(PATHS, &[("path", "cut_through")]) == CONNECTIONS as f64;
                (all && metrics.sum("sni_router_cut_through_opening", &[]) == 0.0).then_some(())
            });
            let forgotten = eventually(PATIENCE, "none is tracked", || (tracked(&site) == 0).then_some(()));
            begin.wait();
            carried.and(forgotten).unwrap();
            for (connection, plan) in connections.into_iter().zip(&plans) {
                connection.join().unwrap().unwrap_or_else(|error| panic!("{plan:?}: {error}"));
            }
        });
    });
    let flows = || (site.metrics().sum("sni_router_cut_through_flows", &[]) == 0.0).then_some(());
    eventually(PATIENCE, "no flow is left", flows).unwrap();
    assert_eq!(tracked(&site), 0);
    assert_eq!(*site.failures.lock().unwrap(), [] as [String; 0]);
}

/// Connections of the listener and to backends in the router's table, but for those that have ended.
fn tracked(site: &Site) -> usize {
    let table = || Ok(fs::read_to_string("/proc/thread-self/net/nf_conntrack")?);
    let table = site.network.router.run(table).unwrap();
    assert!(table.contains(&format!("dport={} ", site.router.admin().port())), "the scrapes are tracked: {table}");
    let listener = format!(" dport={} ", site.router.address().port());
    let ours = |line: &&str| {
        line.contains(&listener)
            || line.contains(" dst=10.0.2.2 ")
            || line.contains(" dst=fd00:0000:0000:0000:0000:0000:0000:0202 ")
    };
    table.lines().filter(ours).filter(|line| line.contains("ESTABLISHED")).count()
}

/// `None` without root or nft, which CI does not allow.
fn site(scenario: &str, prepare: impl FnOnce(&Network)) -> Option<Site> {
    require(Tool::Nft, scenario).unwrap()?;
    Site::with(scenario, |setup: Setup| setup.line("dataPath: CutThrough"), prepare)
}

/// One rule in a chain at this hook.
fn nft(place: &Place, hook: &str, priority: &str, rule: &str) {
    let kind = if priority == "filter" { "filter" } else { "nat" };
    let priority = if (hook, priority) == ("output", "dstnat") { "-100" } else { priority };
    let commands = format!(
        "add table inet scenario; add chain inet scenario {hook} {{ type {kind} hook {hook} priority {priority}; }}; \
         add rule inet scenario {hook} {rule}"
    );
    place.command("nft", &[&commands]).unwrap();
}

fn both_families(site: &Site) {
    site.run(site.address(), NAME, 2, plans(6, &TURNS, SIZES));
    site.run(site.address_ipv6(), NAME_IPV6, 2, plans(6, &TURNS, SIZES));
}

fn relayed(site: &Site, reason: &str, connections: u64) {
    site.assert_path("copy", connections);
    assert_eq!(site.metrics().sum(FALLBACKS, &[("reason", reason)]), connections as f64);
}

const CONNECTIONS: usize = 40;
/// None that a client ends before the switch.
const TURNS: [Turn; 1] = [Turn::BackendFirst];
const SIZES: std::ops::RangeInclusive<u64> = 10_000..=100_000;
