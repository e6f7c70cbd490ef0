//! A link far away takes smaller packets than the ends believe: what the gateway before it says reaches the end that sent
//! the packet, although the message is addressed to the router.

use tests::client_tools::require_root;
use tests::network::Network;
use tests::router_process::RouterProcess;
use tests::setup::Setup;

use super::plan::Turn;
use super::site::{self, FALLBACKS, NAME, NAME_IPV6, PATHS, Site, VERDICTS};
use super::suite::plans;

#[test]
fn behind_the_backends_gateway() {
    smaller_packets(1500, 1400);
}

#[test]
fn behind_the_clients_gateway() {
    smaller_packets(1400, 1500);
}

fn smaller_packets(client_mtu: u32, backend_mtu: u32) {
    if !require_root("a path with a smaller MTU").unwrap() {
        return;
    }
    let network = Network::behind_gateways(client_mtu, backend_mtu).unwrap();
    site::leave_ports(&network);
    let setup = |setup: Setup| setup.line("dataPath: CutThrough");
    let site = Site::on(network, setup, RouterProcess::start);
    // What a client has sent before the switch our own TCP brings, and then knows the path: it relays.
    let turns = [Turn::BackendFirst];
    let translated = || site.metrics().sum(VERDICTS, &[("verdict", "icmp_translated")]);
    site.run(site.address(), NAME, 1, plans(2, &turns, 1_000_000..=3_000_000));
    let of_ipv4 = translated();
    assert!(of_ipv4 >= 1.0);
    site.run(site.address_ipv6(), NAME_IPV6, 1, plans(2, &turns, 1_000_000..=3_000_000));
    assert!(translated() > of_ipv4);
    // Once a client has learnt the way's size, it offers smaller segments than it takes from us, and its connections are
    // relayed.
    let metrics = site.metrics();
    let [cut, relayed] =
        [metrics.sum(PATHS, &[("path", "cut_through")]), metrics.sum(FALLBACKS, &[("reason", "segment_size")])];
    assert!(cut >= 2.0 && cut + relayed == 4.0, "{cut} cut through, {relayed} relayed");
}
