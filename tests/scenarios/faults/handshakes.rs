//! A terminator that is killed while it shakes hands.

use std::io::{Read, Write};

use nix::sys::signal::Signal;
use tests::authority::{Authority, KeyKind};
use tests::fakes::Echo;
use tests::patience::{PATIENCE, eventually};
use tests::processes::is_running;
use tests::raw_client::{End, RawClient};
use tests::router_process::{RouterProcess, send_signal};
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::TERMINATE;

#[test]
fn a_terminator_killed_in_the_middle_of_handshakes_ends_them_and_the_next_ones_succeed() {
    let authority = Authority::new("scenario CA").unwrap();
    let echo = Echo::start().unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let setup = Setup::new().tenant(Tenant::terminate("acme", &[TERMINATE], echo.address(), &certificate));
    let router = RouterProcess::start(setup).unwrap();
    let client = TlsClient::trusting(&authority).unwrap();
    let killed = router.terminator_pid("acme").unwrap();
    let hello = client.first_flight(TERMINATE).unwrap();
    let halfway: Vec<_> = (0..50)
        .map(|_| {
            let client = RawClient::connect(router.address()).unwrap();
            client.send(&hello).unwrap();
            // The ServerHello: the terminator waits for the client now.
            assert_eq!(client.read(1).unwrap(), [HANDSHAKE_RECORD]);
            client
        })
        .collect();
    send_signal(killed, Signal::SIGKILL).unwrap();
    for client in &halfway {
        assert_ne!(client.answer().end, End::StillOpen);
    }
    eventually(PATIENCE, "it is gone", || (!is_running(killed)).then_some(())).unwrap();
    eventually(PATIENCE, "acme is served again", || {
        let mut stream = client.connect(router.address(), TERMINATE).ok()?;
        stream.write_all(b"ping").ok()?;
        stream.flush().ok()?;
        stream.read_exact(&mut [0; 4]).ok()
    })
    .unwrap();
    assert_ne!(router.terminator_pid("acme").unwrap(), killed);
    router.wait_for_metric("sni_terminator_restarts_total", &[("tenant", "acme")], 1.0).unwrap();
}

/// RFC 8446 section 5.1.
const HANDSHAKE_RECORD: u8 = 22;
