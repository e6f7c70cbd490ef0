//! SIGTERM: no new connections, established ones go on to their end or to the tenant's deadline, then exit 0.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::authority::{Authority, KeyKind};
use tests::fakes::Echo;
use tests::patience::{PATIENCE, eventually};
use tests::processes::is_running;
use tests::raw_client::{End, RawClient};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::{TlsClient, TlsStream};

use crate::reload::passthrough;
use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn established_connections_of_both_modes_go_on_to_their_end() {
    let mut draining = Established::with_drain_timeout("60s");
    let first_to_end = passthrough(&draining.router, PASSTHROUGH);
    draining.router.signal(Signal::SIGTERM).unwrap();
    draining.wait_until_closed_to_new_ones();
    let progress = |words: &[&str]| draining.router.log().wait_for(PATIENCE, words).unwrap();
    progress(&["connections=2", "draining"]);
    first_to_end.finish().unwrap();
    progress(&["still draining", "connections=1"]);
    draining.ping_both();
    let pids = draining.router.pids().unwrap();
    draining.passthrough.finish().unwrap();
    assert_eq!(draining.passthrough.answer().end, End::Closed);
    draining.ping_terminated();
    draining.terminated.conn.send_close_notify();
    draining.terminated.flush().unwrap();
    assert_eq!(draining.terminated.read(&mut [0; 1]).unwrap(), 0);
    drop(draining.terminated);
    let status = draining.router.wait_for_exit(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
    assert!(pids.iter().all(|pid| !is_running(*pid)), "a process outlived the supervisor");
}

#[test]
fn the_deadline_ends_what_does_not_end_by_itself() {
    let mut draining = Established::with_drain_timeout("1s");
    let start = Instant::now();
    draining.router.signal(Signal::SIGTERM).unwrap();
    let answer = draining.passthrough.answer();
    assert!(matches!(answer.end, End::Reset), "{answer:?}");
    let end = draining.terminated.read(&mut [0; 1]);
    assert!(end.is_err(), "a cut connection looked like an orderly end: {end:?}");
    assert!(start.elapsed() >= Duration::from_secs(1), "cut after {:?}", start.elapsed());
    assert!(draining.router.wait_for_exit(PATIENCE).unwrap().success());
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut draining = Established::with_drain_timeout("60s");
    draining.router.signal(Signal::SIGTERM).unwrap();
    draining.wait_until_closed_to_new_ones();
    draining.ping_both();
    let start = Instant::now();
    draining.router.signal(Signal::SIGTERM).unwrap();
    draining.router.wait_for_exit(Duration::from_secs(10)).unwrap();
    assert_ne!(draining.passthrough.answer().end, End::StillOpen);
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// A router with one established connection of each mode to an echo.
struct Established {
    router: RouterProcess,
    passthrough: RawClient,
    terminated: TlsStream,
    _echo: Echo,
}

impl Established {
    fn with_drain_timeout(timeout: &str) -> Self {
        let authority = Authority::new("scenario CA").unwrap();
        let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
        let echo = Echo::start().unwrap();
        let timeout = format!("drainTimeout: {timeout}");
        let setup = Setup::new()
            .tenant(Tenant::terminate("acme", &[TERMINATE], echo.address(), &certificate).line(&timeout))
            .tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()).line(&timeout));
        let router = RouterProcess::start(setup).unwrap();
        let terminated = TlsClient::trusting(&authority).unwrap().connect(router.address(), TERMINATE).unwrap();
        let passthrough = passthrough(&router, PASSTHROUGH);
        let mut established = Self { router, passthrough, terminated, _echo: echo };
        established.ping_both();
        established
    }

    fn ping_both(&mut self) {
        self.ping_terminated();
        self.passthrough.send(b"ping").unwrap();
        assert_eq!(self.passthrough.read(4).unwrap(), b"ping");
    }

    fn ping_terminated(&mut self) {
        self.terminated.write_all(b"ping").unwrap();
        self.terminated.flush().unwrap();
        let mut answer = [0; 4];
        self.terminated.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ping");
    }

    fn wait_until_closed_to_new_ones(&self) {
        eventually(PATIENCE, "/readyz says no", || match self.router.admin_get("/readyz") {
            Ok(answer) => (answer.status == 503).then_some(()),
            Err(_) => Some(()),
        })
        .unwrap();
        eventually(PATIENCE, "new connections are refused", || {
            let refused = TcpStream::connect(self.router.address());
            refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused).then_some(())
        })
        .unwrap();
    }
}
