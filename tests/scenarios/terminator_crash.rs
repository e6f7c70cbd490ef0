//! A terminator that dies costs its own tenant's connections, and nobody else's.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::authority::{Authority, KeyKind};
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::raw_client::{End, RawClient};
use tests::router_process::{RouterProcess, send_signal, suspend};
use tests::setup::{Setup, Tenant, secret_dir};
use tests::tls_client::TlsClient;

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn the_others_notice_nothing_and_it_is_restarted() {
    let tenants = ThreeTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    let client = TlsClient::trusting(&tenants.authority).unwrap();
    let mut acme = client.connect(router.address(), TERMINATE).unwrap();
    let mut globex = client.connect(router.address(), GLOBEX).unwrap();
    let pinniped = RawClient::connect(router.address()).unwrap();
    let hello = Hello::named(PASSTHROUGH).records();
    pinniped.send(&hello).unwrap();
    assert_eq!(pinniped.read(hello.len()).unwrap(), hello);
    for stream in [&mut acme, &mut globex] {
        ping(stream);
    }
    let (router_pid, globex_pid) = (router.router_pid().unwrap(), router.terminator_pid("globex").unwrap());
    let killed = router.terminator_pid("acme").unwrap();

    send_signal(killed, Signal::SIGKILL).unwrap();
    let end = acme.read(&mut [0; 1]);
    assert!(!matches!(end, Ok(1..)), "{end:?}");
    ping(&mut globex);
    pinniped.send(b"ping").unwrap();
    assert_eq!(pinniped.read(4).unwrap(), b"ping");

    eventually(PATIENCE, "acme is served again", || {
        let attempt = Instant::now();
        let served = client.connect(router.address(), TERMINATE);
        assert!(attempt.elapsed() < ANSWER_LIMIT, "an attempt took {:?}", attempt.elapsed());
        served.ok().map(|mut stream| ping(&mut stream))
    })
    .unwrap();
    let restarted = router.terminator_pid("acme").unwrap();
    assert_ne!(restarted, killed);
    router.wait_for_metric("sni_terminator_restarts_total", &[("tenant", "acme")], 1.0).unwrap();
    let metrics = router.metrics().unwrap();
    assert_eq!(metrics.sum("sni_terminator_restarts_total", &[("tenant", "globex")]), 0.0);
    assert_eq!(metrics.sum("sni_terminator_up", &[("tenant", "acme")]), 1.0);
    ping(&mut globex);
    pinniped.send(b"pong").unwrap();
    assert_eq!(pinniped.read(4).unwrap(), b"pong");
    assert_eq!((router.router_pid().unwrap(), router.terminator_pid("globex").unwrap()), (router_pid, globex_pid));
}

#[test]
fn connections_for_one_that_cannot_come_back_get_an_alert_in_bounded_time() {
    let tenants = ThreeTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    fs::remove_file(secret_dir(router.folder(), "acme", 0).join("tls.key")).unwrap();
    send_signal(router.terminator_pid("acme").unwrap(), Signal::SIGKILL).unwrap();
    // Until the last thread of the killed process is gone its socket takes connections, which are then lost with it.
    router.log().wait_for(PATIENCE, &["ended unasked", "acme"]).unwrap();
    for _ in 0..3 {
        let start = Instant::now();
        let client = RawClient::connect(router.address()).unwrap();
        client.send(&Hello::named(TERMINATE).records()).unwrap();
        let answer = client.answer();
        assert_eq!((answer.alert(), answer.end), (Some(INTERNAL_ERROR), End::Closed), "{answer:?}");
        assert!(start.elapsed() < ANSWER_LIMIT, "{:?}", start.elapsed());
    }
    let labels = [("tenant", "acme"), ("outcome", "terminator_unavailable")];
    router.wait_for_metric("sni_router_connections_total", &labels, 3.0).unwrap();
    assert_eq!(router.metrics().unwrap().sum("sni_terminator_up", &[("tenant", "acme")]), 0.0);
    let mut globex = TlsClient::trusting(&tenants.authority).unwrap().connect(router.address(), GLOBEX).unwrap();
    ping(&mut globex);
}

#[test]
fn one_that_hangs_keeps_nobody_else_waiting() {
    let tenants = ThreeTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    let client = TlsClient::trusting(&tenants.authority).unwrap();
    let acme_pid = router.terminator_pid("acme").unwrap();
    suspend(acme_pid).unwrap();
    let hello = Hello::named(TERMINATE).records();
    let waiting: Vec<RawClient> = (0..500)
        .map(|_| {
            let client = RawClient::connect(router.address()).unwrap();
            client.send(&hello).unwrap();
            client
        })
        .collect();
    for _ in 0..20 {
        let start = Instant::now();
        ping(&mut client.connect(router.address(), GLOBEX).unwrap());
        let pinniped = RawClient::connect(router.address()).unwrap();
        let hello = Hello::named(PASSTHROUGH).records();
        pinniped.send(&hello).unwrap();
        assert_eq!(pinniped.read(hello.len()).unwrap(), hello);
        assert_eq!(router.admin_get("/metrics").unwrap().status, 200);
        assert!(start.elapsed() < ANSWER_LIMIT, "{:?}", start.elapsed());
    }
    drop(waiting);
    send_signal(acme_pid, Signal::SIGCONT).unwrap();
    let mut served = eventually(PATIENCE, "acme is served again", || client.connect(router.address(), TERMINATE).ok());
    ping(served.as_mut().unwrap());
    assert_eq!(router.terminator_pid("acme").unwrap(), acme_pid);
}

fn ping(stream: &mut (impl Read + Write)) {
    stream.write_all(b"ping").unwrap();
    stream.flush().unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}

/// Two terminated tenants and a passthrough one, all with the same echo behind them.
struct ThreeTenants {
    authority: Authority,
    echo: Echo,
}

impl ThreeTenants {
    fn start() -> Self {
        Self { authority: Authority::new("scenario CA").unwrap(), echo: Echo::start().unwrap() }
    }

    fn setup(&self) -> Setup {
        let certificate = |name| self.authority.server(&[name], KeyKind::Ecdsa).unwrap();
        let echo = self.echo.address();
        Setup::new()
            .tenant(Tenant::terminate("acme", &[TERMINATE], echo, &certificate(TERMINATE)))
            .tenant(Tenant::terminate("globex", &[GLOBEX], echo, &certificate(GLOBEX)))
            .tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo))
    }
}

const GLOBEX: &str = "www.globex.test";
/// The router waits two seconds for a terminator; the rest is for a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);
/// RFC 8446 section 6.2.
const INTERNAL_ERROR: u8 = 80;
