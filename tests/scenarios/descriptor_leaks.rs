//! After 20,000 short connections every process has as many open descriptors as before.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use tests::authority::{Authority, KeyKind};
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::processes::open_descriptors;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::{TlsClient, tcp};

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn passthrough_leaks_no_descriptor() {
    let echo = Echo::start().unwrap();
    let setup = Setup::new().tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()));
    let router = RouterProcess::start(setup).unwrap();
    let hello = Hello::named(PASSTHROUGH).records();
    let connection = || {
        let mut stream = tcp(router.address()).unwrap();
        stream.write_all(&hello).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, hello);
    };
    leaves_no_descriptor(&router, connection);
    assert_eq!(echo.accepted(), WARM_UP + CONNECTIONS);
}

#[test]
fn terminate_leaks_no_descriptor() {
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let echo = Echo::start().unwrap();
    let setup = Setup::new().tenant(Tenant::terminate("acme", &[TERMINATE], echo.address(), &certificate));
    let router = RouterProcess::start(setup).unwrap();
    let client = TlsClient::trusting(&authority).unwrap();
    let connection = || {
        let mut stream = client.connect(router.address(), TERMINATE).unwrap();
        stream.write_all(b"ping").unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"ping");
    };
    leaves_no_descriptor(&router, connection);
    assert_eq!(echo.accepted(), WARM_UP + CONNECTIONS);
}

fn leaves_no_descriptor(router: &RouterProcess, connection: impl Fn() + Sync) {
    repeat(WARM_UP, &connection);
    let pids = router.pids().unwrap();
    let descriptors = || pids.iter().map(|pid| open_descriptors(*pid).unwrap().len()).collect::<Vec<_>>();
    eventually(PATIENCE, "the warm-up's connections are over", || active(router).eq(&0.0).then_some(())).unwrap();
    let before = descriptors();
    repeat(CONNECTIONS, &connection);
    let back = eventually(PATIENCE, "as few descriptors as before", || {
        descriptors().iter().zip(&before).all(|(now, before)| now <= before).then_some(())
    });
    assert!(back.is_ok(), "before {before:?}, after {:?} of {pids:?}", descriptors());
    assert_eq!(router.pids().unwrap(), pids, "a process was restarted meanwhile");
}

fn repeat(connections: u64, connection: &(impl Fn() + Sync)) {
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..connections / THREADS).for_each(|_| connection()));
        }
    });
}

fn active(router: &RouterProcess) -> f64 {
    router.metrics().unwrap().sum("sni_router_connections_active", &[])
}

const WARM_UP: u64 = 400;
const CONNECTIONS: u64 = 20_000;
const THREADS: u64 = 8;
