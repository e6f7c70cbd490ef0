//! 100 MB each way arrive byte by byte as they were sent, whoever half-closes first, on every data path.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use tests::fakes::{Bulk, Turn};
use tests::hello::Hello;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::stream_of_bytes::{Digested, receive, send};
use tests::tls_client::tcp;

use crate::two_tenants::PASSTHROUGH;

#[test]
fn bulk_survives_on_the_automatic_data_path_which_ends_up_splicing() {
    transfers_in_every_turn("Auto", "splice");
}

#[test]
fn bulk_survives_splicing() {
    transfers_in_every_turn("Splice", "splice");
}

#[test]
fn bulk_survives_copying() {
    transfers_in_every_turn("Copy", "copy");
}

fn transfers_in_every_turn(configured: &str, counted: &str) {
    let turns = [Turn::ClientFirst, Turn::BackendFirst, Turn::Together];
    for turn in turns {
        let backend = Bulk::start(turn, BYTES).unwrap();
        let setup = Setup::new().line(&format!("dataPath: {configured}")).tenant(Tenant::passthrough(
            "pinniped",
            &[PASSTHROUGH],
            backend.address(),
        ));
        let router = RouterProcess::start(setup).unwrap();
        let (sent, received) = transfer(&router, turn);
        let (backend_received, backend_sent) = backend.report().unwrap();
        assert_eq!(backend_received, sent, "client to backend, {turn:?}");
        assert_eq!(received, backend_sent, "backend to client, {turn:?}");

        router.wait_for_metric("sni_router_data_path_total", &[("path", counted)], 1.0).unwrap();
        let metrics = router.metrics().unwrap();
        assert_eq!(metrics.sum("sni_router_data_path_total", &[]), 1.0, "{turn:?}");
        let moved = |direction| metrics.sum("sni_router_bytes_total", &[("direction", direction)]);
        assert_eq!(moved("client_to_backend"), sent.bytes as f64);
        assert_eq!(moved("backend_to_client"), received.bytes as f64);
        assert_eq!(metrics.sum("sni_router_connections_total", &[("tenant", "pinniped"), ("outcome", "ok")]), 1.0);
    }
}

/// Returns what the client sent and what it received.
fn transfer(router: &RouterProcess, turn: Turn) -> (Digested, Digested) {
    let stream = tcp(router.address()).unwrap();
    let hello = Hello::named(PASSTHROUGH).records();
    let sending = || {
        let already_sent = if turn == Turn::BackendFirst { hello.len() } else { 0 };
        let sent = send(&mut &stream, &hello, already_sent, CLIENT_SEED, BYTES).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        sent
    };
    match turn {
        Turn::ClientFirst => {
            let sent = sending();
            (sent, receive(&mut &stream).unwrap())
        }
        // The hello has to go first, or nobody would dial the backend.
        Turn::BackendFirst => {
            (&stream).write_all(&hello).unwrap();
            let received = receive(&mut &stream).unwrap();
            (sending(), received)
        }
        Turn::Together => thread::scope(|scope| {
            let sent = scope.spawn(sending);
            let received = receive(&mut &stream).unwrap();
            (sent.join().unwrap(), received)
        }),
    }
}

const BYTES: u64 = 100_000_000;
const CLIENT_SEED: u64 = 1;
