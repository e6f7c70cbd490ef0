//! Several backends behind one tenant: shares, retries, health checks, in both modes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tests::authority::{Authority, KeyKind};
use tests::fakes::{Echo, PlainHttp};
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::ports::free_address;
use tests::raw_client::{End, RawClient};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn passthrough_connections_are_shared_by_weight() {
    let backends = [Echo::start().unwrap(), Echo::start().unwrap()];
    let tenant = passthrough(backends[0].address()).backend(backends[1].address(), 2).line("balance: RoundRobin");
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    (0..30).for_each(|_| assert_echoed(&router));
    assert_eq!(backends.map(|backend| backend.accepted()), [10, 20]);
}

#[test]
fn terminated_connections_are_shared_by_weight() {
    let backends = [PlainHttp::start("first").unwrap(), PlainHttp::start("second").unwrap()];
    let scene = Terminated::new();
    let tenant = scene.tenant(backends[0].address()).backend(backends[1].address(), 2).line("balance: RoundRobin");
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    (0..30).for_each(|_| scene.get(&router).unwrap());
    assert_eq!(backends.map(|backend| backend.accepted()), [10, 20]);
}

#[test]
fn a_backend_that_is_gone_costs_no_passthrough_connection() {
    let backend = Echo::start().unwrap();
    let tenant = passthrough(free_address().unwrap()).backend(backend.address(), 1).line("balance: RoundRobin");
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    (0..10).for_each(|_| assert_echoed(&router));
    assert_eq!(backend.accepted(), 10);
}

#[test]
fn a_backend_that_is_gone_costs_no_request() {
    let backend = PlainHttp::start("second").unwrap();
    let scene = Terminated::new();
    let tenant = scene.tenant(free_address().unwrap()).backend(backend.address(), 1).line("balance: RoundRobin");
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    (0..10).for_each(|_| scene.get(&router).unwrap());
    assert_eq!(backend.accepted(), 10);
}

#[test]
fn without_a_healthy_backend_the_client_hears_of_it_at_once_until_one_is_back() {
    let address = free_address().unwrap();
    let router = RouterProcess::start(Setup::new().tenant(passthrough(address).line(CHECK))).unwrap();
    wait_until(&router, address, Health::Down);

    let start = Instant::now();
    let client = RawClient::connect(router.address()).unwrap();
    client.send(&Hello::named(PASSTHROUGH).records()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.alert(), answer.end), (Some(INTERNAL_ERROR), End::Closed));
    assert!(start.elapsed() < CONNECT_TIMEOUT, "the client waited for a time-out");
    let labels = [("tenant", "pinniped"), ("outcome", "none_healthy")];
    router.wait_for_metric("sni_router_connections_total", &labels, 1.0).unwrap();

    let _backend = Echo::start_on(address).unwrap();
    wait_until(&router, address, Health::Up);
    assert_echoed(&router);
}

#[test]
fn a_terminator_s_backends_are_checked_and_reported_alike() {
    let healthy = PlainHttp::start("healthy").unwrap();
    let gone = free_address().unwrap();
    let scene = Terminated::new();
    let tenant = scene.tenant(gone).backend(healthy.address(), 1).line(CHECK);
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    wait_until(&router, gone, Health::Down);
    wait_until(&router, healthy.address(), Health::Up);
    scene.get(&router).unwrap();

    let _back = Echo::start_on(gone).unwrap();
    wait_until(&router, gone, Health::Up);
    router.log().wait_for(PATIENCE, &["backend is healthy again"]).unwrap();
}

fn passthrough(backend: SocketAddr) -> Tenant {
    Tenant::passthrough("pinniped", &[PASSTHROUGH], backend)
}

#[derive(Clone, Copy, Debug)]
enum Health {
    Down,
    Up,
}

fn wait_until(router: &RouterProcess, backend: SocketAddr, health: Health) {
    let labels = [("backend", &*backend.to_string())];
    let is_so = || {
        let metrics = router.metrics().ok()?;
        let is = metrics.sum("sni_router_backend_up", &labels);
        (metrics.has("sni_router_backend_up", &labels) && is == f64::from(health as u8)).then_some(())
    };
    eventually(PATIENCE, &format!("{backend} is {health:?}"), is_so).unwrap();
}

/// The backend gives the hello back.
fn assert_echoed(router: &RouterProcess) {
    let hello = Hello::named(PASSTHROUGH).records();
    let client = RawClient::connect(router.address()).unwrap();
    client.send(&hello).unwrap();
    assert_eq!(client.read(hello.len()).unwrap(), hello);
}

struct Terminated {
    authority: Authority,
    client: TlsClient,
}

impl Terminated {
    fn new() -> Self {
        let authority = Authority::new("scenario CA").unwrap();
        Self { client: TlsClient::trusting(&authority).unwrap(), authority }
    }

    fn tenant(&self, backend: SocketAddr) -> Tenant {
        let certificate = self.authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
        Tenant::terminate("acme", &[TERMINATE], backend, &certificate)
    }

    fn get(&self, router: &RouterProcess) -> anyhow::Result<()> {
        let answer = self.client.get(router.address(), TERMINATE, "/")?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }
}

const CHECK: &str = "healthCheck: { interval: 20ms, timeout: 1s, unhealthyAfter: 2, healthyAfter: 2 }";
/// The default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// RFC 8446 section 6.2.
const INTERNAL_ERROR: u8 = 80;
