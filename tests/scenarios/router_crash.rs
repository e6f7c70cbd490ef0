//! A router that dies is restarted, and does not take terminated connections with it: they are not its own any more.

use std::io::{Read, Write};

use nix::sys::signal::Signal;
use tests::authority::{Authority, KeyKind};
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
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

fn ping(stream: &mut (impl Read + Write)) {
    stream.write_all(b"ping").unwrap();
    stream.flush().unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}
