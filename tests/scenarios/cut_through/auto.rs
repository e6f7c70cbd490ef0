//! `dataPath: Auto`: the kernel where the self-test passes, the relay where it cannot, and why.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use tests::network::Network;
use tests::processes::status;
use tests::router_process::RouterProcess;
use tests::setup::Setup;

use super::CAP_NET_ADMIN;
use super::plan::Turn;
use super::site::{FALLBACKS, NAME, NAME_IPV6, Site};
use super::suite::plans;

#[test]
fn the_self_test_passes_and_the_kernel_carries() {
    let Some(site) = Site::with("Auto", |setup| setup, |_| ()) else { return };
    exchange(&site);
    site.assert_path("cut_through", 20);
    let log = site.router.log();
    let passed = log.with(&["INFO", "self-test passed"]);
    assert_eq!(passed.len(), 1, "{passed:?}");
    assert!(log.with(&["WARN"]).is_empty(), "{:?}", log.lines());
    let status = status(site.router.router_pid().unwrap()).unwrap();
    assert_eq!(status.capabilities("CapEff").unwrap(), CAP_NET_ADMIN);
}

#[test]
fn nothing_of_the_self_test_stays() {
    let Some(site) = Site::with("the self-test's traces", |setup| setup, |_| ()) else { return };
    let metrics = site.metrics();
    assert_eq!(metrics.sum("sni_router_cut_through_flows", &[]), 0.0);
    assert_eq!(metrics.sum(super::VERDICTS, &[("program", "cut_through"), ("verdict", "forwarded")]), 0.0);
    let pid = site.router.router_pid().unwrap();
    let threads: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().collect();
    for thread in threads {
        let namespace = |path: std::path::PathBuf| std::fs::read_link(path.join("ns/net")).unwrap();
        assert_eq!(namespace(thread.path()), namespace(format!("/proc/{pid}").into()), "{thread:?}");
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
        assert!(u64::from_str_radix(effective, 16).unwrap() & !CAP_NET_ADMIN == 0, "{thread:?}: {effective}");
    }
}

#[test]
fn without_cap_bpf_everything_is_relayed() {
    // CAP_SYS_ADMIN includes CAP_BPF (include/linux/capability.h, bpf_capable).
    relayed_without(&[CapabilitySet::BPF, CapabilitySet::SYS_ADMIN]);
}

#[test]
fn without_the_right_to_make_namespaces_there_is_no_self_test_and_everything_is_relayed() {
    relayed_without(&[CapabilitySet::SYS_ADMIN]);
}

#[test]
fn a_self_test_that_fails_has_everything_relayed() {
    let start = |setup| {
        // As a container's seccomp profile may have it: all that comes before the switch works.
        apply_filter(&without_tcp_repair().map_err(|error| anyhow!("{error}"))?)?;
        RouterProcess::start(setup)
    };
    let Some(site) = Site::started_by("a self-test that fails", |setup| setup, |_| (), start) else { return };
    exchange(&site);
    let lines = all_are_relayed(&site, "self_test");
    assert!(lines[0].contains("WARN") && lines[0].contains("self-test: IPv4"), "{lines:?}");
    // Nothing was pinned or attached for connections that are never carried.
    let metrics = site.metrics();
    assert!(!metrics.has("sni_router_cut_through_flows", &[]));
    assert_eq!(metrics.sum(super::VERDICTS, &[("program", "cut_through")]), 0.0);
    let attached =
        || Ok(std::process::Command::new("tc").args(["filter", "show", "dev", "to-client", "ingress"]).output()?);
    assert_eq!(String::from_utf8_lossy(&site.network.router.run(attached).unwrap().stdout).trim(), "");
}

#[test]
fn connections_that_stay_on_the_host_are_counted_and_cost_nothing() {
    let local = |setup: Setup| setup.listener_address(std::net::Ipv4Addr::LOCALHOST.into());
    let Some(site) = Site::with("Auto on loopback", local, |_: &Network| ()) else { return };
    site.network
        .router
        .run(|| {
            Ok(super::plan::client(site.router.address(), NAME, plans(1, &[Turn::Together], 1..=2).next().unwrap())?)
        })
        .unwrap();
    assert_eq!(site.metrics().sum(FALLBACKS, &[("reason", "local")]), 1.0);
    assert!(!site.metrics().has("sni_router_ebpf_up", &[]));
    let status = status(site.router.router_pid().unwrap()).unwrap();
    assert_eq!(status.capabilities("CapPrm").unwrap(), 0);
}

fn relayed_without(capabilities: &[CapabilitySet]) {
    let start = |setup| {
        for capability in capabilities {
            remove_capability_from_bounding_set(*capability)?;
        }
        RouterProcess::start(setup)
    };
    let Some(site) = Site::started_by("Auto without privileges", |setup| setup, |_| (), start) else { return };
    exchange(&site);
    all_are_relayed(&site, "not_permitted");
}

/// After [`exchange`]; the one line that says why.
fn all_are_relayed(site: &Site, reason: &str) -> Vec<String> {
    // A relay counts itself when the client has its last byte already.
    let copied = || site.router.wait_for_metric("sni_router_data_path_total", &[("path", "copy")], 20.0);
    site.network.router.run(copied).unwrap();
    let metrics = site.metrics();
    assert_eq!(metrics.sum("sni_router_data_path_total", &[]), 20.0);
    let down = [("program", "cut_through"), ("reason", reason)];
    assert!(metrics.has("sni_router_ebpf_up", &down));
    assert_eq!(metrics.sum("sni_router_ebpf_up", &down), 0.0);
    let mut lines = site.router.log().with(&["cut-through"]);
    // The real maps were made while the test ran.
    lines.retain(|line| !line.contains("removed what had no flows any more"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("all connections are relayed"), "{lines:?}");
    let status = status(site.router.router_pid().unwrap()).unwrap();
    assert_eq!(status.capabilities("CapEff").unwrap(), 0);
    lines
}

/// Of the calling thread and what it starts.
fn without_tcp_repair() -> Result<BpfProgram, seccompiler::BackendError> {
    let is = |argument, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    let repair = SeccompRule::new(vec![is(1, IPPROTO_TCP)?, is(2, TCP_REPAIR)?])?;
    let rules = BTreeMap::from([(SETSOCKOPT, vec![repair])]);
    let target = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(EPERM), target)?.try_into()
}

/// The system call's number on x86-64 and elsewhere (asm/unistd.h).
const SETSOCKOPT: i64 = if cfg!(target_arch = "x86_64") { 54 } else { 208 };
const IPPROTO_TCP: u64 = 6;
/// include/uapi/linux/tcp.h.
const TCP_REPAIR: u64 = 19;
const EPERM: u32 = 1;

fn exchange(site: &Site) {
    // A client that has finished before the switch is relayed.
    let turns = [Turn::BackendFirst];
    site.run(site.address(), NAME, 4, plans(10, &turns, 1_000..=30_000));
    site.run(site.address_ipv6(), NAME_IPV6, 4, plans(10, &turns, 1_000..=30_000));
}
