//! `sandbox.memoryMax`: a terminator that wants more is killed by the kernel and started again, and nobody else notices.

use std::io::{Read, Write};

use tests::authority::{Authority, KeyKind};
use tests::client_tools::require_root;
use tests::fakes::Echo;
use tests::patience::{PATIENCE, eventually};
use tests::processes;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::{TlsClient, TlsStream};

use crate::two_tenants::TERMINATE;

#[test]
fn a_terminator_out_of_memory_is_started_again_and_others_notice_nothing() {
    if !require_root("a limit of memory").unwrap() {
        return;
    }
    let authority = Authority::new("scenario CA").unwrap();
    let backend = Echo::start().unwrap();
    let certificate = |name| authority.server(&[name], KeyKind::Ecdsa).unwrap();
    let setup = Setup::new()
        .line("workers: 1")
        .tenant(
            Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate(TERMINATE))
                .line("sandbox: { memoryMax: 16MiB }"),
        )
        .tenant(Tenant::terminate("globex", &[GLOBEX], backend.address(), &certificate(GLOBEX)));
    let router = RouterProcess::start(setup).unwrap();
    let holds =
        router.metrics().unwrap().sum("sni_terminator_sandbox", &[("tenant", "acme"), ("part", "memory_limit")]);
    assert_eq!(
        holds,
        1.0,
        "this host has no cgroup hierarchy that limits memory:\n{}",
        router.log().lines().join("\n")
    );

    let client = TlsClient::trusting(&authority).unwrap();
    let mut neighbour = client.connect(router.address(), GLOBEX).unwrap();
    let (victim, other) = (router.terminator_pid("acme").unwrap(), router.terminator_pid("globex").unwrap());
    let mut held: Vec<TlsStream> = Vec::new();
    while processes::is_running(victim) && held.len() < MOST_CONNECTIONS {
        // The last ones die with it.
        held.extend(client.connect(router.address(), TERMINATE));
    }
    eventually(PATIENCE, "the kernel ends it", || (!processes::is_running(victim)).then_some(())).unwrap();
    router.log().wait_for(PATIENCE, &["terminator/acme", "out of memory", "sandbox.memoryMax"]).unwrap();
    eventually(PATIENCE, "it serves again", || client.connect(router.address(), TERMINATE).ok()).unwrap();
    assert_ne!(router.terminator_pid("acme").unwrap(), victim);

    neighbour.write_all(b"still here").unwrap();
    let mut back = [0; 10];
    neighbour.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"still here");
    assert_eq!(router.terminator_pid("globex").unwrap(), other);
    let labels = [("tenant", "globex")];
    assert_eq!(router.metrics().unwrap().sum("sni_terminator_restarts_total", &labels), 0.0);
}

const GLOBEX: &str = "www.globex.test";
/// Each takes some ten KiB of the terminator's memory.
const MOST_CONNECTIONS: usize = 5000;
