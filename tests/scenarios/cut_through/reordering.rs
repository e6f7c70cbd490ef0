//! Packets overtake each other between client and router, in both directions.

use tests::network::{Network, Reordering};
use tests::setup::Setup;

use super::plan::Turn;
use super::site::{NAME, NAME_IPV6, PATHS, Site};
use super::suite::plans;

#[test]
fn packets_that_come_late_to_the_kernel() {
    reordered("CutThrough", "cut_through");
}

#[test]
fn packets_that_come_late_to_the_relay() {
    reordered("Copy", "copy");
}

fn reordered(data_path: &str, path: &str) {
    let mut way = None;
    let prepare = |network: &Network| way = Some(Reordering::between_client_and_router(network, 20).unwrap());
    let setup = |setup: Setup| setup.line(&format!("dataPath: {data_path}"));
    let Some(site) = Site::with("packets out of order", setup, prepare) else { return };
    let turns = [Turn::Together, Turn::ClientFirst, Turn::BackendFirst];
    site.run(site.address(), NAME, 6, plans(CONNECTIONS, &turns, 500_000..=2_000_000));
    site.run(site.address_ipv6(), NAME_IPV6, 6, plans(CONNECTIONS, &turns, 500_000..=2_000_000));
    let overtaken = way.unwrap().overtaken();
    assert!(overtaken > 1_000, "{overtaken} packets were overtaken");
    // Bytes that arrive out of order before the switch make a connection ineligible.
    let taken = site.metrics().sum(PATHS, &[("path", path)]);
    assert!(taken >= CONNECTIONS as f64, "{taken} of {}", CONNECTIONS * 2);
}

const CONNECTIONS: u64 = 12;
