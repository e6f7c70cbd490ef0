//! Interfaces upon interfaces, interfaces without Ethernet frames, with offloads that cannot be translated, and interfaces
//! that appear while the router runs.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use tests::client_tools::{Tool, require};
use tests::hello::Hello;
use tests::network::{Network, Place};
use tests::patience::{PATIENCE, eventually};
use tests::setup::Setup;

use super::plan::{Plan, Turn, client_after_hello};
use super::site::{FALLBACKS, NAME, NAME_IPV6, PATHS, Site};
use super::suite::plans;

#[test]
fn a_bridge_towards_the_client_and_macvlan_towards_the_backend() {
    let prepare = |network: &Network| {
        network
            .router
            .ip("link add bridge type bridge
                 link set bridge up
                 addr flush dev to-client
                 link set to-client master bridge
                 addr add 10.0.1.1/24 dev bridge
                 addr add fd00::101/120 dev bridge nodad
                 addr flush dev to-backend
                 link add link to-backend name upon type macvlan mode bridge
                 link set upon up
                 addr add 10.0.2.1/24 dev upon
                 addr add fd00::201/120 dev upon nodad")
            .unwrap();
    };
    let Some(site) = Site::with("interfaces upon interfaces", cut_through, prepare) else { return };
    both_families(&site);
    site.assert_path("cut_through", 12);
}

#[test]
fn a_tunnel_without_frames() {
    let prepare = |network: &Network| {
        // VXLAN-GPE carries IP packets as they are (RFC drafts; drivers/net/vxlan: ARPHRD_NONE).
        for (place, own, peer) in [(&network.client, 2, 1), (&network.router, 1, 2)] {
            place
                .ip(&format!(
                    "link add tunnel type vxlan dstport 4790 gpe external
                     link set tunnel mtu 1400 up
                     addr add 10.0.5.{own}/32 dev tunnel
                     route add 10.0.5.{peer}/32 encap ip id 1 dst 10.0.1.{peer} dev tunnel src 10.0.5.{own}"
                ))
                .unwrap();
        }
    };
    let Some(site) = Site::with("a tunnel without frames", cut_through, prepare) else { return };
    site.run(([10, 0, 5, 1], site.router.address().port()).into(), NAME, 2, plans(6, &TURNS, SIZES));
    site.assert_path("copy", 6);
    assert_eq!(site.metrics().sum(FALLBACKS, &[("reason", "client_not_seen")]), 6.0);
}

#[test]
fn offloads_that_merge_too_much_are_noticed_when_they_are_switched() {
    if require(Tool::Ethtool, "receive offloads").unwrap().is_none() {
        return;
    }
    let switch = |network: &Network, interface: &str, state: &str| {
        network.router.command("ethtool", &["-K", interface, "rx-gro-list", state]).unwrap();
    };
    let prepare = |network: &Network| switch(network, "to-client", "on");
    let Some(site) = Site::with("receive offloads", cut_through, prepare) else { return };
    both_families(&site);
    site.assert_path("copy", 12);
    assert_eq!(site.metrics().sum(FALLBACKS, &[("reason", "receive_offload")]), 12.0);

    switch(&site.network, "to-client", "off");
    wait_for(&site, "cut_through");
    switch(&site.network, "to-backend", "on");
    wait_for(&site, "copy");
}

#[test]
fn an_interface_that_appears_while_the_router_runs() {
    let Some(site) = Site::with("a late interface", cut_through, |_| ()) else { return };
    add_late(&site, &site.network.client, 6);
    let by_the_late_one = std::net::SocketAddr::from(([10, 0, 6, 1], site.router.address().port()));
    site.run(by_the_late_one, NAME, 2, plans(6, &TURNS, SIZES));
    site.assert_path("cut_through", 6);
    // The next process attaches for good, in place of what was there.
    let killed = site.router.router_pid().unwrap();
    tests::router_process::send_signal(killed, nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually(PATIENCE, "another router", || site.router.router_pid().ok().filter(|pid| *pid != killed)).unwrap();
    site.network.router.run(|| site.router.wait_until_ready()).unwrap();
    let filters =
        || Ok(std::process::Command::new("tc").args(["filter", "show", "dev", "late", "ingress"]).output()?);
    assert_eq!(String::from_utf8_lossy(&site.network.router.run(filters).unwrap().stdout).trim(), "");
    site.run(by_the_late_one, NAME, 2, plans(6, &TURNS, SIZES));
    site.assert_path("cut_through", 6);
}

#[test]
fn acknowledgements_that_another_program_takes_before_ours() {
    let Some(site) = Site::with("another program before ours", cut_through, |_| ()) else { return };
    add_late(&site, &site.network.backend, 7);
    site.network.router.ip("route add 10.0.2.2/32 via 10.0.7.2 dev late").unwrap();
    // Filters with a smaller preference come first: this one lets the stack have all but SYNs (classic BPF: IPv4, TCP,
    // flags; TC_ACT_OK or TC_ACT_UNSPEC).
    let program = "8,40 0 0 12,21 0 5 2048,48 0 0 23,21 0 3 6,48 0 0 47,69 1 0 2,6 0 0 0,6 0 0 4294967295";
    let filter = ["filter", "add", "dev", "late", "ingress", "prio", "1", "bpf", "da", "bytecode", program];
    site.network.router.command("tc", &filter).unwrap();
    for number in 1..=2 {
        let plan = Plan { number, turn: Turn::BackendFirst, client_to_backend: 100_000, backend_to_client: 100_000 };
        let connect = || {
            let mut stream = TcpStream::connect_timeout(&site.address(), PATIENCE)?;
            // In one segment: nothing of the client passes our program.
            stream.write_all(&[&Hello::named(NAME).records()[..], &plan.encode()].concat())?;
            client_after_hello(&stream, plan)
        };
        site.at_client(connect).unwrap();
        site.assert_path("copy", number);
        assert_eq!(site.metrics().sum(FALLBACKS, &[("reason", "acknowledgement_unseen")]), number as f64);
    }
    assert_eq!(*site.failures.lock().unwrap(), [] as [String; 0]);
}

/// An interface `late` of the router whose other end is `late-router` of `place`, when it has the programs: 10.0.NET.1 and
/// 10.0.NET.2.
fn add_late(site: &Site, place: &Place, net: u8) {
    let attached = site.router.log().with(&["cut-through: attached"]).len();
    let there = place.run(|| Ok(File::open("/proc/thread-self/ns/net")?)).unwrap();
    let there = format!("/proc/{}/fd/{}", std::process::id(), there.as_raw_fd());
    site.network
        .router
        .ip(&format!(
            "link add late type veth peer name late-router netns {there}
             addr add 10.0.{net}.1/24 dev late
             link set late up"
        ))
        .unwrap();
    place.ip(&format!("addr add 10.0.{net}.2/24 dev late-router\nlink set late-router up")).unwrap();
    eventually(PATIENCE, "the interface has the programs", || {
        (site.router.log().with(&["cut-through: attached"]).len() > attached).then_some(())
    })
    .unwrap();
}

/// Until connections take this path.
fn wait_for(site: &Site, path: &str) {
    let taken = || site.metrics().sum(PATHS, &[("path", path)]);
    let before = taken();
    eventually(PATIENCE, "connections take the other path", || {
        site.run(site.address(), NAME, 1, plans(1, &TURNS, SIZES));
        (taken() > before).then_some(())
    })
    .unwrap();
}

fn cut_through(setup: Setup) -> Setup {
    setup.line("dataPath: CutThrough")
}

fn both_families(site: &Site) {
    site.run(site.address(), NAME, 2, plans(6, &TURNS, SIZES));
    site.run(site.address_ipv6(), NAME_IPV6, 2, plans(6, &TURNS, SIZES));
}

/// None that a client ends before the switch.
const TURNS: [Turn; 1] = [Turn::BackendFirst];
const SIZES: std::ops::RangeInclusive<u64> = 10_000..=100_000;
