//! The same suite for cut-through and for the relay: every byte arrives, every end is what it was, whatever the ends
//! have negotiated. A counter proves which path was taken.

use tests::network::Network;

use super::plan::{Plan, Turn};
use super::site::{NAME, NAME_IPV6, Site};

#[test]
fn a_thousand_connections_through_the_kernel() {
    many("CutThrough", "cut_through", 1_000);
}

#[test]
fn a_thousand_connections_through_the_relay() {
    many("Copy", "copy", 1_000);
}

#[test]
fn every_kind_of_end_through_the_kernel() {
    ends("CutThrough", "cut_through");
}

#[test]
fn every_kind_of_end_through_the_relay() {
    ends("Copy", "copy");
}

#[test]
fn readers_that_stop_for_a_while() {
    for (data_path, path) in PATHS {
        let Some(site) = Site::new("zero windows", data_path) else { return };
        site.run(site.address(), NAME, 8, plans(8, &[Turn::BothStall], 30_000_000..=30_000_000));
        site.assert_path(path, 8);
    }
}

#[test]
fn more_bytes_than_sequence_numbers() {
    let Some(site) = Site::new("5 GiB in one connection", "CutThrough") else { return };
    let plan = Plan { number: 5, turn: Turn::ClientFirst, client_to_backend: 5 << 30, backend_to_client: 1000 };
    site.run(site.address(), NAME, 1, std::iter::once(plan));
    let plan = Plan { number: 6, turn: Turn::BackendFirst, client_to_backend: 1000, backend_to_client: 5 << 30 };
    site.run(site.address(), NAME, 1, std::iter::once(plan));
    site.assert_path("cut_through", 2);
}

#[test]
fn clients_without_timestamps() {
    options(&["tcp_timestamps"], &[]);
}

#[test]
fn clients_without_sack() {
    options(&["tcp_sack"], &[]);
}

#[test]
fn clients_without_window_scaling() {
    options(&["tcp_window_scaling"], &[]);
}

#[test]
fn clients_without_any_option() {
    options(&["tcp_timestamps", "tcp_sack", "tcp_window_scaling"], &[]);
}

#[test]
fn backends_without_window_scaling() {
    options(&[], &["tcp_window_scaling"]);
}

fn many(data_path: &str, path: &str, connections: u64) {
    let Some(site) = Site::new("many connections", data_path) else { return };
    let turns = [Turn::Together, Turn::ClientFirst, Turn::BackendFirst];
    site.run(site.address(), NAME, 16, plans(connections / 2, &turns, 1_000_000..=10_000_000));
    site.run(site.address_ipv6(), NAME_IPV6, 16, plans(connections / 2, &turns, 1_000_000..=10_000_000));
    site.assert_path(path, connections);
}

fn ends(data_path: &str, path: &str) {
    let Some(site) = Site::new("every kind of end", data_path) else { return };
    let turns = [Turn::Together, Turn::ClientFirst, Turn::BackendFirst, Turn::ClientResets, Turn::BackendResets];
    site.run(site.address(), NAME, 4, plans(200, &turns, 0..=300_000));
    site.run(site.address_ipv6(), NAME_IPV6, 4, plans(200, &turns, 0..=300_000));
    if path != "cut_through" {
        site.assert_path(path, 400);
    }
}

/// Without these settings at the client and at the backend.
fn options(client: &[&str], backend: &[&str]) {
    let prepare = |network: &Network| {
        for setting in client {
            network.client.set(&format!("ipv4/{setting}"), "0").unwrap();
        }
        for setting in backend {
            network.backend.set(&format!("ipv4/{setting}"), "0").unwrap();
        }
    };
    let Some(site) = Site::with("TCP options", |setup| setup.line("dataPath: CutThrough"), prepare) else { return };
    let turns = [Turn::Together, Turn::ClientFirst, Turn::BackendFirst];
    site.run(site.address(), NAME, 8, plans(24, &turns, 1_000_000..=10_000_000));
    site.run(site.address_ipv6(), NAME_IPV6, 8, plans(24, &turns, 1_000_000..=10_000_000));
    site.assert_path("cut_through", 48);
}

/// Turns one after the other, sizes spread over the range.
pub(super) fn plans(
    count: u64,
    turns: &[Turn],
    sizes: std::ops::RangeInclusive<u64>,
) -> impl Iterator<Item = Plan> + Send + use<> {
    let span = sizes.end() - sizes.start() + 1;
    let size = move |seed: u64| sizes.start() + seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) % span;
    let turns = turns.to_vec();
    (0..count).map(move |number| Plan {
        number,
        turn: turns[(number % turns.len() as u64) as usize],
        client_to_backend: size(number * 2),
        backend_to_client: size(number * 2 + 1),
    })
}

const PATHS: [(&str, &str); 2] = [("CutThrough", "cut_through"), ("Copy", "copy")];
