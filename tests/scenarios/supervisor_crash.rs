//! A supervisor that dies leaves nothing behind: its children drain and end.

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use tests::authority::{Authority, KeyKind};
use tests::fakes::Echo;
use tests::patience::{PATIENCE, eventually};
use tests::processes::is_running;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::TERMINATE;

#[test]
fn established_connections_end_by_themselves_and_then_the_children_do() {
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let echo = Echo::start().unwrap();
    let setup = Setup::new().tenant(Tenant::terminate("acme", &[TERMINATE], echo.address(), &certificate));
    let mut router = RouterProcess::start(setup).unwrap();
    let children = [router.router_pid().unwrap(), router.terminator_pid("acme").unwrap()];
    let mut established = TlsClient::trusting(&authority).unwrap().connect(router.address(), TERMINATE).unwrap();

    router.signal(Signal::SIGKILL).unwrap();
    router.wait_for_exit(PATIENCE).unwrap();
    eventually(PATIENCE, "the router stops accepting", || TcpStream::connect(router.address()).err()).unwrap();
    established.write_all(b"ping").unwrap();
    established.flush().unwrap();
    let mut answer = [0; 4];
    established.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
    assert!(is_running(children[1]));
    established.conn.send_close_notify();
    established.flush().unwrap();
    drop(established);
    eventually(PATIENCE, "the children end", || children.iter().all(|pid| !is_running(*pid)).then_some(())).unwrap();
}
