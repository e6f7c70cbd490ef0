//! 2,000 clients that send one byte a second cost neither the others' patience nor a processor.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::hello::Hello;
use tests::processes::{self, Pid};
use tests::router_process::RouterProcess;
use tests::tls_client::{TlsClient, tcp};

use crate::two_tenants::{PASSTHROUGH, TERMINATE, TwoTenants};

#[test]
fn two_thousand_trickling_clients_do_not_keep_a_good_one_waiting() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let tenants = TwoTenants::start();
    let patient = "clientHello: { timeout: 60s, maxBytes: 65536 }";
    let router = RouterProcess::start(tenants.setup().listener_line(patient)).unwrap();
    let client = tenants.tls_client();
    slowest_of_some_requests(&router, &client);
    let alone = slowest_of_some_requests(&router, &client);

    let tricklers: Vec<TcpStream> = (0..TRICKLERS).map(|_| tcp(router.address()).unwrap()).collect();
    let hello = Hello::named(PASSTHROUGH).records();
    let stop = AtomicBool::new(false);
    let (in_company, busy) = thread::scope(|scope| {
        scope.spawn(|| trickle(&tricklers, &hello, &stop));
        let busy = processors_used(router.router_pid().unwrap());
        let in_company = slowest_of_some_requests(&router, &client).max(slowest_of_some_requests(&router, &client));
        stop.store(true, Ordering::Relaxed);
        (in_company, busy)
    });
    let metrics = router.metrics().unwrap();
    assert_eq!(metrics.sum("sni_router_client_hello_total", &[("outcome", "too_slow")]), 0.0);
    assert!(in_company < alone * 20 + Duration::from_secs(1), "alone {alone:?}, among tricklers {in_company:?}");
    // 2,000 wake-ups a second at most; a router that spins on half hellos takes both cores.
    assert!(busy < 0.3, "the router used {busy:.2} processors");
}

/// By one process, over some seconds in which each trickler sends several bytes.
fn processors_used(pid: Pid) -> f64 {
    let (start, before) = (Instant::now(), processes::cpu_time(pid).unwrap());
    thread::sleep(Duration::from_secs(4));
    (processes::cpu_time(pid).unwrap() - before).as_secs_f64() / start.elapsed().as_secs_f64()
}

/// Ends on request, or after as many seconds as a hello has bytes.
fn trickle(tricklers: &[TcpStream], hello: &[u8], stop: &AtomicBool) {
    for byte in &hello[..hello.len() - 1] {
        let next = Instant::now() + Duration::from_secs(1);
        for mut trickler in tricklers {
            trickler.write_all(&[*byte]).unwrap();
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn slowest_of_some_requests(router: &RouterProcess, client: &TlsClient) -> Duration {
    let request = |name| {
        let start = Instant::now();
        assert_eq!(client.get(router.address(), name, "/").unwrap().status, 200);
        start.elapsed()
    };
    (0..5).map(|_| request(PASSTHROUGH).max(request(TERMINATE))).max().unwrap()
}

const TRICKLERS: usize = 2_000;
