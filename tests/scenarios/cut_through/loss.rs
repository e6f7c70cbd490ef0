//! Packets get lost on both ways at both ends; TCP repairs it across the kernel's translation as it does across two
//! connections.

use std::process::Command;

use anyhow::{Context, bail};
use tests::network::{Network, Place};
use tests::setup::Setup;

use super::plan::Turn;
use super::site::{NAME, NAME_IPV6, Site};
use super::suite::plans;

#[test]
fn one_packet_of_a_hundred() {
    for data_path in ["CutThrough", "Copy"] {
        lossy(data_path, 100, 24, 3_000_000);
    }
}

#[test]
fn one_packet_of_twenty() {
    for data_path in ["CutThrough", "Copy"] {
        lossy(data_path, 20, 24, 300_000);
    }
}

fn lossy(data_path: &str, one_of: u32, connections: u64, bytes: u64) {
    // Three SYNs in a row, as many as the default takes, get lost once in a thousand connections.
    let setup = |setup: Setup| setup.line(&format!("dataPath: {data_path}")).line_of_each_tenant("connectTimeout: 20s");
    let prepare = |network: &Network| {
        for place in [&network.client, &network.backend] {
            drop_one_of(place, one_of);
        }
        // Single segments: a lost packet is one, not all that was merged with it.
        for place in [&network.client, &network.backend] {
            place.ip("link set to-router gso_max_segs 1").unwrap();
        }
    };
    let Some(site) = Site::with("lossy links", setup, prepare) else { return };
    let turns = [Turn::Together, Turn::ClientFirst, Turn::BackendFirst];
    site.run(site.address(), NAME, 12, plans(connections, &turns, bytes / 2..=bytes));
    site.run(site.address_ipv6(), NAME_IPV6, 12, plans(connections, &turns, bytes / 2..=bytes));
    let path = if data_path == "Copy" { "copy" } else { "cut_through" };
    let taken = site.metrics().sum(super::site::PATHS, &[("path", path)]);
    // Bytes that arrive out of order before the switch make a connection ineligible.
    assert!(taken >= connections as f64, "{taken} of {}", connections * 2);
}

/// Drops packets by chance where they arrive and where they leave, ARP and the like not excepted: a classic BPF program
/// that compares a random number (SKF_AD_RANDOM, include/uapi/linux/filter.h) and answers TC_ACT_OK or TC_ACT_SHOT.
fn drop_one_of(place: &Place, one_of: u32) {
    let threshold = u32::MAX / one_of;
    let program = format!("4,32 0 0 4294963256,53 0 1 {threshold},6 0 0 0,6 0 0 2");
    tc(place, &["qdisc", "add", "dev", "to-router", "clsact"]);
    for way in ["ingress", "egress"] {
        tc(place, &["filter", "add", "dev", "to-router", way, "bpf", "da", "bytecode", &program]);
    }
}

pub(super) fn tc(place: &Place, arguments: &[&str]) {
    place
        .run(|| {
            let done = Command::new("tc").args(arguments).output().context("start tc")?;
            if !done.status.success() {
                bail!("tc {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
            }
            Ok(())
        })
        .unwrap();
}
