//! 100 MB each way arrive byte by byte as they were sent, whoever half-closes first, on every data path.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use tests::client_tools::{Tool, require, require_root};
use tests::fakes::{Bulk, Turn};
use tests::hello::Hello;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::shortage::FailingCalls;
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

#[test]
fn bulk_survives_without_a_descriptor_for_a_pipe() {
    if !require_root("system calls that fail").unwrap() {
        return;
    }
    let Some(strace) = require(Tool::Strace, "system calls that fail").unwrap() else { return };
    for error in ["EMFILE", "ENFILE", "ENOMEM"] {
        let without_pipes = |router: &RouterProcess| {
            FailingCalls::inject(&strace, router.router_pid().unwrap(), "pipe2", error).unwrap()
        };
        let router = transfers("Splice", "copy", Turn::Together, without_pipes);
        router.wait_for_metric("sni_router_data_path_fallback_total", &[("reason", "no_pipe")], 1.0).unwrap();
    }
}

fn transfers_in_every_turn(configured: &str, counted: &str) {
    for turn in [Turn::ClientFirst, Turn::BackendFirst, Turn::Together] {
        transfers(configured, counted, turn, |_| ());
    }
}

/// One transfer, for which `prepare` has done something to the router; what it returns is dropped afterwards.
fn transfers<T>(
    configured: &str,
    counted: &str,
    turn: Turn,
    prepare: impl FnOnce(&RouterProcess) -> T,
) -> RouterProcess {
    let backend = Bulk::start(turn, BYTES).unwrap();
    let setup = Setup::new().line(&format!("dataPath: {configured}")).tenant(Tenant::passthrough(
        "pinniped",
        &[PASSTHROUGH],
        backend.address(),
    ));
    let router = RouterProcess::start(setup).unwrap();
    let prepared = prepare(&router);
    let (sent, received) = transfer(&router, turn);
    let (backend_received, backend_sent) = backend.report().unwrap();
    // Not before the last byte has arrived.
    drop(prepared);
    assert_eq!(backend_received, sent, "client to backend, {turn:?}");
    assert_eq!(received, backend_sent, "backend to client, {turn:?}");

    router.wait_for_metric("sni_router_data_path_total", &[("path", counted)], 1.0).unwrap();
    let metrics = router.metrics().unwrap();
    assert_eq!(metrics.sum("sni_router_data_path_total", &[]), 1.0, "{turn:?}");
    let moved = |direction| metrics.sum("sni_router_bytes_total", &[("direction", direction)]);
    assert_eq!(moved("client_to_backend"), sent.bytes as f64);
    assert_eq!(moved("backend_to_client"), received.bytes as f64);
    assert_eq!(metrics.sum("sni_router_connections_total", &[("tenant", "pinniped"), ("outcome", "ok")]), 1.0);
    router
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
