//! A reload changes what is steered; nobody who is there notices.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::sys::signal::Signal;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tests::hello::Hello;
use tests::patience::PATIENCE;
use tests::raw_client::RawClient;
use tests::router_process::RouterProcess;

use super::site::{Greeting, Site, greet, setup};
use crate::reload::replace;
use crate::reload_of_the_process::{shown, successor};

#[test]
fn prefixes_come_and_go_and_connections_through_them_stay() {
    let Some(site) = Site::new("steering that changes") else { return };
    let (router, text) = begin(&site);
    let greetings = || greetings(&site);
    assert_eq!(greetings(), [Greeting::Refused; 2]);
    let change = |workers: usize, steer: &str| {
        let former = router.router_pid().unwrap();
        let text = text.replace("workers: 2", &format!("workers: {workers}"));
        replace(&router, &text.replace("  - name: tls\n", &format!("  - name: tls\n{steer}")));
        successor(&router, former);
    };

    change(2, "    steer: [\"10.99.1.0/24:443\"]\n");
    assert_eq!(greetings(), [Greeting::Echoed, Greeting::Refused]);
    let steered = site.at_client(|| RawClient::connect(FIRST)).unwrap();
    let hello = Hello::named("echo.test").records();
    steered.send(&hello).unwrap();
    assert_eq!(steered.read(hello.len()).unwrap(), hello);
    let goes_on = || {
        steered.send(b"still").unwrap();
        assert_eq!(steered.read(5).unwrap(), b"still");
    };

    // More workers, whose sockets are steered to, and then fewer.
    change(4, "    steer: [\"10.99.1.0/24:443\", \"10.99.2.0/24:8443\"]\n");
    goes_on();
    (0..50).for_each(|_| assert_eq!(greetings(), [Greeting::Echoed; 2]));
    change(1, "    steer: [\"10.99.2.0/24:8443\"]\n");
    goes_on();
    (0..50).for_each(|_| assert_eq!(greetings(), [Greeting::Refused, Greeting::Echoed]));
    change(1, "");
    goes_on();
    assert_eq!(greetings(), [Greeting::Refused; 2]);
    assert!(router.log().with(&["WARN"]).is_empty(), "{:?}", router.log().lines());
}

#[test]
fn a_router_that_fails_without_its_privileges_takes_over_neither_steering_nor_the_admin_socket() {
    let Some(site) = Site::new("a successor that fails late") else { return };
    let (router, text) = begin(&site);
    let greetings = || greetings(&site);
    let steered = |steer: &str| text.replace("  - name: tls\n", &format!("  - name: tls\n    steer: [\"{steer}\"]\n"));
    let former = router.router_pid().unwrap();
    replace(&router, &steered("10.99.1.0/24:443"));
    let former = successor(&router, former);
    assert_eq!(greetings(), [Greeting::Echoed, Greeting::Refused]);

    // Root may have any number of threads, the router's uid none besides those that there are: it fails as late as it can.
    let supervisor = Pid::from_raw(router.supervisor_pid().unwrap());
    let limit = getrlimit(Resource::Nproc);
    prlimit(supervisor, Resource::Nproc, Rlimit { current: Some(1), ..limit }).unwrap();
    replace(&router, &steered("10.99.2.0/24:8443"));
    router.log().wait_for(PATIENCE, &["not reloaded", "ended before it was ready"]).unwrap();
    router.log().wait_for(PATIENCE, &["start the workers"]).unwrap();
    (0..20).for_each(|_| assert_eq!(greetings(), [Greeting::Echoed, Greeting::Refused]));
    assert!(shown(&router).contains("not reloaded"), "{}", shown(&router));
    assert_eq!(router.router_pid().unwrap(), former);

    prlimit(supervisor, Resource::Nproc, limit).unwrap();
    router.signal(Signal::SIGHUP).unwrap();
    successor(&router, former);
    assert_eq!(greetings(), [Greeting::Refused, Greeting::Echoed]);
    assert!(!shown(&router).contains("not reloaded"), "{}", shown(&router));
}

/// A router that steers nothing yet, and its configuration.
fn begin(site: &Site) -> (RouterProcess, String) {
    let router = site.start(setup(site).line("workers: 2"));
    let text = fs::read_to_string(router.config_file()).unwrap();
    (router, text)
}

/// What a client is told at two addresses that are nobody's unless they are steered.
fn greetings(site: &Site) -> [Greeting; 2] {
    site.at_client(|| [FIRST, SECOND].map(greet))
}

const FIRST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 1, 1)), 443);
const SECOND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 2, 1)), 8443);
