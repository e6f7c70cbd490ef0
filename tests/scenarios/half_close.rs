//! The end of one direction leaves the other one open: 100 MB of it in `bulk_transfer`, TLS's own half-close here.

use std::io::{Read, Write};

use tests::authority::{Authority, KeyKind};
use tests::fakes::{Bulk, Turn};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::stream_of_bytes::{receive, send};
use tests::tls_client::{TlsClient, TlsStream};

use crate::two_tenants::TERMINATE;

#[test]
fn close_notify_of_a_terminated_client_leaves_the_backends_direction_open() {
    let scene = Scene::start(Turn::ClientFirst);
    let mut stream = scene.connect();
    let sent = send(&mut stream, b"", 0, 1, BYTES).unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let received = receive(&mut stream).unwrap();
    assert_eq!(scene.backend.report().unwrap(), (sent, received));
}

#[test]
fn the_end_of_a_terminated_backend_leaves_the_clients_direction_open() {
    let scene = Scene::start(Turn::BackendFirst);
    let mut stream = scene.connect();
    let received = receive(&mut stream).unwrap();
    let sent = send(&mut stream, b"", 0, 1, BYTES).unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    assert_eq!(scene.backend.report().unwrap(), (sent, received));
    assert_eq!(stream.sock.read(&mut [0; 1]).unwrap(), 0);
}

struct Scene {
    authority: Authority,
    backend: Bulk,
    router: RouterProcess,
}

impl Scene {
    fn start(turn: Turn) -> Self {
        let authority = Authority::new("scenario CA").unwrap();
        let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
        let backend = Bulk::start(turn, BYTES).unwrap();
        let setup = Setup::new().tenant(Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate));
        Self { router: RouterProcess::start(setup).unwrap(), authority, backend }
    }

    fn connect(&self) -> TlsStream {
        TlsClient::trusting(&self.authority).unwrap().connect(self.router.address(), TERMINATE).unwrap()
    }
}

const BYTES: u64 = 10_000_000;
