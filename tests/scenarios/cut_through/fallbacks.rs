//! What is not eligible is relayed, and counted with its reason.

use std::net::SocketAddr;

use tests::network::Network;
use tests::setup::Setup;

use super::plan::{self, Plan, Turn};
use super::site::{FALLBACKS, NAME, NAME_IPV6, PATHS, Site};

#[test]
fn a_client_that_has_finished_already() {
    let Some(site) = Site::new("fallbacks", "CutThrough") else { return };
    // Hello, plan and FIN arrive together.
    let plan = Plan { number: 1, turn: Turn::ClientFirst, client_to_backend: 0, backend_to_client: 100_000 };
    site.run(site.address(), NAME, 1, std::iter::repeat_n(plan, 20));
    let metrics = site.metrics();
    let carried = metrics.sum(PATHS, &[("path", "cut_through")]);
    let finished = metrics.sum(FALLBACKS, &[("reason", "finished")]);
    assert_eq!(carried + finished, 20.0);
}

#[test]
fn ends_on_this_host() {
    let Some(site) = Site::new("fallbacks", "CutThrough") else { return };
    let local = SocketAddr::from(([127, 0, 0, 1], site.router.address().port()));
    site.network.router.run(|| Ok(plan::client(local, NAME, PLAN)?)).unwrap();
    assert_eq!(site.metrics().sum(FALLBACKS, &[("reason", "local")]), 1.0);
    // Its own address, which is reached over loopback, too.
    site.network.router.run(|| Ok(plan::client(site.address(), NAME, PLAN)?)).unwrap();
    assert_eq!(site.metrics().sum(FALLBACKS, &[("reason", "client_not_seen")]), 1.0);
    assert_eq!(site.metrics().sum(PATHS, &[("path", "cut_through")]), 0.0);
}

#[test]
fn ends_of_two_families() {
    let Some(site) = Site::new("fallbacks", "CutThrough") else { return };
    site.run(site.address(), NAME_IPV6, 1, std::iter::once(PLAN));
    assert_eq!(site.metrics().sum(FALLBACKS, &[("reason", "family")]), 1.0);
    site.assert_path("copy", 1);
}

#[test]
fn a_backend_without_timestamps() {
    for_the_backend("timestamps", |network| network.backend.set("ipv4/tcp_timestamps", "0").unwrap());
}

#[test]
fn a_backend_without_sack() {
    for_the_backend("sack", |network| network.backend.set("ipv4/tcp_sack", "0").unwrap());
}

#[test]
fn a_way_to_the_backend_that_takes_smaller_segments() {
    for_the_backend("segment_size", |network| network.backend.ip("link set to-router mtu 1400").unwrap());
}

#[test]
fn the_kernels_port_range_leaves_no_port() {
    let setup = |setup: Setup| setup.line("dataPath: CutThrough");
    let prepare = |network: &Network| network.router.set("ipv4/ip_local_port_range", "1024 65535").unwrap();
    let Some(site) = Site::with("no ports", setup, prepare) else { return };
    site.run(site.address(), NAME, 1, std::iter::once(PLAN));
    let up = [("program", "cut_through"), ("reason", "resources")];
    assert!(site.metrics().has("sni_router_ebpf_up", &up));
    assert_eq!(site.metrics().sum("sni_router_ebpf_up", &up), 0.0);
    assert_eq!(site.router.log().with(&["WARN", "cut-through", "ip_local_port_range"]).len(), 1);
}

fn for_the_backend(reason: &str, prepare: impl FnOnce(&Network)) {
    let Some(site) = Site::with("fallbacks", |setup| setup.line("dataPath: CutThrough"), prepare) else { return };
    site.run(site.address(), NAME, 1, std::iter::once(PLAN));
    assert_eq!(site.metrics().sum(FALLBACKS, &[("reason", reason)]), 1.0);
    site.assert_path("copy", 1);
}

const PLAN: Plan = Plan { number: 1, turn: Turn::BackendFirst, client_to_backend: 1000, backend_to_client: 1000 };
