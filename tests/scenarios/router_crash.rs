//! A router that dies is restarted, and does not take terminated connections with it: they are not its own any more. Nobody
//! who connects meanwhile is refused: the listening sockets are the supervisor's.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use tests::authority::{Authority, KeyKind};
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::processes::is_running;
use tests::raw_client::RawClient;
use tests::router_process::{RouterProcess, send_signal};
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn established_terminated_connections_outlive_the_router() {
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let echo = Echo::start().unwrap();
    let setup = Setup::new()
        .tenant(Tenant::terminate("acme", &[TERMINATE], echo.address(), &certificate))
        .tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()));
    let router = RouterProcess::start(setup).unwrap();
    let client = TlsClient::trusting(&authority).unwrap();
    let mut established = client.connect(router.address(), TERMINATE).unwrap();
    ping(&mut established);
    let (killed, terminator) = (router.router_pid().unwrap(), router.terminator_pid("acme").unwrap());

    send_signal(killed, Signal::SIGKILL).unwrap();
    ping(&mut established);
    let mut fresh = eventually(PATIENCE, "a new router serves terminated connections", || {
        client.connect(router.address(), TERMINATE).ok()
    })
    .unwrap();
    ping(&mut fresh);
    ping(&mut established);
    let passthrough = RawClient::connect(router.address()).unwrap();
    let hello = Hello::named(PASSTHROUGH).records();
    passthrough.send(&hello).unwrap();
    assert_eq!(passthrough.read(hello.len()).unwrap(), hello);
    assert_ne!(router.router_pid().unwrap(), killed);
    assert_eq!(router.terminator_pid("acme").unwrap(), terminator);
}

#[test]
fn who_connects_while_there_is_no_router_waits_for_the_next_one() {
    let echo = Echo::start().unwrap();
    let setup = Setup::new().tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()));
    let router = RouterProcess::start(setup).unwrap();
    let (killed, done) = (router.router_pid().unwrap(), AtomicBool::new(false));
    let hello = Hello::named(PASSTHROUGH).records();
    let served = |client: &RawClient| client.send(&hello).is_ok() && client.read(hello.len()).is_ok_and(|e| e == hello);
    thread::scope(|scope| {
        let storm: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut unserved = 0;
                    while !done.load(Ordering::SeqCst) {
                        // What the killed process had accepted is lost with it; being refused would be an error here.
                        unserved += u32::from(!served(&RawClient::connect(router.address()).unwrap()));
                    }
                    unserved
                })
            })
            .collect();
        for _ in 0..5 {
            let killed = router.router_pid().unwrap();
            send_signal(killed, Signal::SIGKILL).unwrap();
            eventually(PATIENCE, "the router is gone", || (!is_running(killed)).then_some(())).unwrap();
            // Whether or not the next one runs already.
            let waiting: Vec<_> = (0..20).map(|_| RawClient::connect(router.address()).unwrap()).collect();
            assert!(waiting.iter().all(served));
        }
        done.store(true, Ordering::SeqCst);
        let unserved: u32 = storm.into_iter().map(|client| client.join().unwrap()).sum();
        assert!(unserved <= 4 * 5, "{unserved} connections were lost: each thread has one at a time");
    });
    assert_ne!(router.router_pid().unwrap(), killed);
}

fn ping(stream: &mut (impl Read + Write)) {
    stream.write_all(b"ping").unwrap();
    stream.flush().unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}
