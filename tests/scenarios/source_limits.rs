//! `perSource`: a client that wants too much of a listener gets an alert before its hello is read, and others notice
//! nothing.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tests::authority::{Authority, KeyKind};
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::processes::open_descriptors;
use tests::raw_client::{End, RawClient};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

use crate::reload::replace;
use crate::reload_of_the_process::successor;
use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn connections_of_one_source_have_a_bound_over_all_workers_and_an_end_makes_room() {
    let scene = Scene::start("perSource: { maxConnections: 3 }");
    let mut held: Vec<_> = (0..3).map(|_| scene.established(FIRST)).collect();
    // Enough for each of four workers to be asked.
    (0..20).for_each(|_| scene.assert_refused(FIRST));
    let silent = scene.connect(FIRST).answer();
    assert_eq!((silent.alert(), silent.end), (Some(INTERNAL_ERROR), End::Closed), "a hello was waited for");
    scene.assert_counted("source_max_connections", 21.0);
    let hellos = scene.router.metrics().unwrap().sum("sni_router_client_hello_total", &[]);
    assert_eq!(hellos, 3.0, "who is refused has no hello read");

    let _others: Vec<_> = (0..3).map(|_| scene.established(SECOND)).collect();
    scene.assert_refused(SECOND);
    held.pop();
    held.push(eventually(PATIENCE, "there is room", || scene.try_established(FIRST)).unwrap());
    scene.assert_refused(FIRST);
    assert_eq!(scene.router.metrics().unwrap().sum("sni_router_sources_not_counted_total", &[]), 0.0);
}

#[test]
fn new_connections_of_one_source_have_a_rate_in_both_modes() {
    for name in [PASSTHROUGH, TERMINATE] {
        let scene = Scene::start("perSource: { connectionRate: 3 }");
        let hello = Hello::named(name).records();
        let clients: Vec<_> = (0..100).map(|_| scene.connect(FIRST)).collect();
        clients.iter().for_each(|client| client.send(&hello).unwrap());
        scene.established(SECOND);
        clients.iter().for_each(|client| client.finish().unwrap());
        let refused = clients.iter().filter(|client| client.answer().alert() == Some(INTERNAL_ERROR)).count();
        assert!((1..=97).contains(&refused), "{name}: {refused} of 100 at once are refused");
        scene.assert_counted("source_connection_rate", refused as f64);
    }
}

#[test]
fn behind_a_trusted_sender_the_client_in_its_header_is_the_source() {
    let from = "proxyProtocol: { from: [127.0.0.0/8] }\n    perSource: { maxConnections: 1, ipv4Prefix: 24 }";
    let scene = Scene::start(from);
    let announced = |client: &str| {
        let connection = scene.connect(FIRST);
        let header = format!("PROXY TCP4 {client} 198.51.100.1 40000 443\r\n");
        connection.send(&[header.as_bytes(), &Hello::named(PASSTHROUGH).records()].concat()).unwrap();
        connection
    };
    let is_served = |client: &RawClient| client.read(1).unwrap()[0] == HANDSHAKE_RECORD;
    let (first, other) = (announced("192.0.2.1"), announced("203.0.113.1"));
    assert!(is_served(&first) && is_served(&other));
    assert_eq!(announced("192.0.2.99").answer().alert(), Some(INTERNAL_ERROR));
    scene.assert_counted("source_max_connections", 1.0);
}

#[test]
fn a_reload_changes_the_bounds_and_what_is_held_counts_under_the_new_ones() {
    let scene = Scene::start("perSource: { maxConnections: 2 }");
    let held: Vec<_> = (0..2).map(|_| scene.established(FIRST)).collect();
    let change = |reloads: f64, from: &str, to: &str| {
        let text = fs::read_to_string(scene.router.config_file()).unwrap();
        assert!(text.contains(from));
        let new = scene.router.folder().join("config.edited");
        fs::write(&new, text.replace(from, to)).unwrap();
        fs::rename(&new, scene.router.config_file()).unwrap();
        scene.router.wait_for_metric("sni_router_config_reloads_total", &[("outcome", "ok")], reloads).unwrap();
    };
    scene.assert_refused(FIRST);
    change(1.0, "maxConnections: 2", "maxConnections: 3");
    let third = scene.established(FIRST);
    scene.assert_refused(FIRST);
    change(2.0, "maxConnections: 3", "maxConnections: 1");
    drop(third);
    scene.assert_refused(FIRST);
    for client in &held {
        client.send(b"ping").unwrap();
        assert_eq!(client.read(4).unwrap(), b"ping");
    }
    scene.established(SECOND);
}

#[test]
fn what_is_handed_over_counts_in_the_process_that_takes_over() {
    let scene = Scene::start("perSource: { maxConnections: 3, connectionRate: 100 }");
    let mut held: Vec<_> = (0..2).map(|_| scene.established(FIRST)).collect();
    let sockets = || {
        let descriptors = open_descriptors(scene.router.router_pid().unwrap()).unwrap();
        descriptors.iter().filter(|target| target.starts_with("socket:")).count()
    };
    let before = sockets();
    // Admitted, and its hello is not whole yet.
    let hello = Hello::named(PASSTHROUGH).records();
    let slow = scene.connect(FIRST);
    slow.send(&hello[..1]).unwrap();
    // Whoever asks sooner takes the last place for a moment.
    eventually(PATIENCE, "it is accepted", || (sockets() > before).then_some(())).unwrap();
    eventually(PATIENCE, "all three are counted", || scene.is_refused(FIRST).then_some(())).unwrap();
    let upgrade = || scene.router.signal(Signal::SIGUSR2).unwrap();
    let reload = || {
        let text = fs::read_to_string(scene.router.config_file()).unwrap();
        replace(&scene.router, &text.replace("workers: 4", "workers: 3"));
    };
    let changes: [&dyn Fn(); 2] = [&upgrade, &reload];
    for change in changes {
        let former = scene.router.router_pid().unwrap();
        change();
        successor(&scene.router, former);
        // What the former process has sent may still be on its way to the workers.
        eventually(PATIENCE, "all three are counted", || scene.is_refused(FIRST).then_some(())).unwrap();
        (0..5).for_each(|_| scene.assert_refused(FIRST));
        drop(scene.established(SECOND));
        for client in &held {
            client.send(b"ping").unwrap();
            assert_eq!(client.read(4).unwrap(), b"ping");
        }
    }
    held.pop();
    held.push(eventually(PATIENCE, "there is room", || scene.try_established(FIRST)).unwrap());
    slow.send(&hello[1..]).unwrap();
    assert_eq!(slow.read(hello.len()).unwrap(), hello);
    scene.assert_refused(FIRST);
}

/// An echo behind both names.
struct Scene {
    router: RouterProcess,
    _echo: Echo,
}

impl Scene {
    fn start(listener_line: &str) -> Self {
        let certificate = Authority::new("scenario CA").unwrap().server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
        let echo = Echo::start().unwrap();
        let setup = Setup::new()
            .line("workers: 4")
            .listener_line(listener_line)
            .tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()))
            .tenant(Tenant::terminate("acme", &[TERMINATE], echo.address(), &certificate));
        Self { router: RouterProcess::start(setup).unwrap(), _echo: echo }
    }

    fn connect(&self, source: Ipv4Addr) -> RawClient {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into()).unwrap();
        socket.connect(&self.router.address().into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        RawClient::from(TcpStream::from(socket))
    }

    /// A passthrough connection whose hello has come back, or `None` if there is an alert in its place.
    fn try_established(&self, source: Ipv4Addr) -> Option<RawClient> {
        let client = self.connect(source);
        let hello = Hello::named(PASSTHROUGH).records();
        client.send(&hello).unwrap();
        let first = client.read(1).unwrap();
        (first[0] == HANDSHAKE_RECORD).then(|| {
            client.read(hello.len() - 1).unwrap();
            client
        })
    }

    fn established(&self, source: Ipv4Addr) -> RawClient {
        self.try_established(source).unwrap()
    }

    fn is_refused(&self, source: Ipv4Addr) -> bool {
        let client = self.connect(source);
        // What comes first is an alert, or an echo.
        client.send(&Hello::named(PASSTHROUGH).records()).unwrap();
        client.read(1).unwrap()[0] != HANDSHAKE_RECORD
    }

    fn assert_refused(&self, source: Ipv4Addr) {
        let client = self.connect(source);
        client.send(&Hello::named(PASSTHROUGH).records()).unwrap();
        let answer = client.answer();
        assert_eq!((answer.alert(), answer.end), (Some(INTERNAL_ERROR), End::Closed));
    }

    fn assert_counted(&self, outcome: &str, count: f64) {
        let labels = [("tenant", ""), ("outcome", outcome)];
        self.router.wait_for_metric("sni_router_connections_total", &labels, count).unwrap();
    }
}

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// RFC 8446 section 5.1.
const HANDSHAKE_RECORD: u8 = 22;
/// RFC 8446 section 6.2.
const INTERNAL_ERROR: u8 = 80;
