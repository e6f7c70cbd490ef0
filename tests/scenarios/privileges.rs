//! What the kernel says that each process may still do; it needs root, or there is nothing to give up.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::Uid;
use socket2::{Domain, SockAddr, Socket, Type};
use tests::client_tools::require_root;
use tests::processes::{Pid, status};
use tests::router_process::RouterProcess;

use crate::two_tenants::TwoTenants;

#[test]
fn the_router_runs_under_its_own_uid_without_a_capability() {
    if !require_root("the router's uid and capabilities").unwrap() {
        return;
    }
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    assert_confined(router.router_pid().unwrap(), config::DEFAULT_ROUTER_UID);
}

#[test]
fn a_terminator_runs_under_its_tenants_uid_without_a_capability_and_is_not_dumpable() {
    if !require_root("the terminator's uid and capabilities").unwrap() {
        return;
    }
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    let config = config::Config::load(router.folder().join("config.yaml")).unwrap();
    let uid = config.tenant_uid("acme").unwrap();
    assert!((61_184..=65_519).contains(&uid), "uid {uid}");
    let terminator = router.terminator_pid("acme").unwrap();
    assert_confined(terminator, uid);
    // The files of a process that is not dumpable belong to root (proc(5)), so that its own uid cannot read its memory.
    let memory = fs::metadata(format!("/proc/{terminator}/mem")).unwrap();
    assert_eq!(memory.uid(), 0, "another process of the tenant's uid can read the keys");
    let limits = fs::read_to_string(format!("/proc/{terminator}/limits")).unwrap();
    let core: Vec<&str> = limits.lines().find(|line| line.contains("core file")).unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{limits}");
}

#[test]
fn a_terminator_takes_no_connection_from_anybody_but_the_router() {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    if !require_root("a stranger at the hand-off socket").unwrap() {
        return;
    }
    let path = router.folder().join("run/terminators/acme/handoff.sock");
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    socket.set_read_timeout(Some(tests::patience::PATIENCE)).unwrap();
    // Root may open every socket, but its uid is not the router's.
    assert!(Uid::effective().is_root());
    socket.connect(&SockAddr::unix(&path).unwrap()).unwrap();
    let _ = socket.send(b"hello");
    let received = socket.recv(&mut [std::mem::MaybeUninit::uninit(); 64]);
    assert!(matches!(&received, Ok(0) | Err(_)), "{received:?}");
    router.log().wait_for(tests::patience::PATIENCE, &["WARN", "uid"]).unwrap();
    assert_eq!(tenants.tls_client().get(router.address(), crate::two_tenants::TERMINATE, "/").unwrap().status, 200);
}

fn assert_confined(pid: Pid, uid: u32) {
    let status = status(pid).unwrap();
    assert_eq!(status.uids().unwrap(), [uid; 4]);
    assert_eq!(status.gids().unwrap(), [uid; 4]);
    assert_eq!(status.groups().unwrap(), [] as [u32; 0]);
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status.capabilities(set).unwrap(), 0, "{set}");
    }
    assert_eq!(status.field("NoNewPrivs").unwrap(), "1");
}
