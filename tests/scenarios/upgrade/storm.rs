//! Thousands of short connections and hundreds of long ones that transfer all the time, during reloads and upgrades.

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::client_tools::require_root;
use tests::log::Log;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::pattern::Pattern;
use tests::processes::is_running;

use super::{Scene, exchange, logged, open, replace, routers, terminators};
use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn a_storm_during_reloads_and_upgrades_notices_nothing() {
    let scene = Scene::start();
    rage(&scene, || ());
    for number in of_each_round(scene.router.log(), &["took over from the former router"], "relayed=") {
        assert!(number >= LONG / 2, "{number} were handed over");
    }
}

#[test]
fn a_storm_that_the_kernel_carries_notices_nothing() {
    if !require_root("a storm through the kernel").unwrap() {
        return;
    }
    let network = Network::isolated().unwrap();
    // Cut-through needs ports that the kernel does not give out.
    network.router.set("ipv4/ip_local_port_range", "32768 60999").unwrap();
    let log = "accessLog: { path: \"-\", format: Json }";
    let scene = Scene::on(network, |setup| setup.line("dataPath: CutThrough").line(log));
    rage(&scene, || {
        let metrics = || scene.network.router.run(|| scene.router.metrics()).ok();
        let flows = || metrics().map_or(0.0, |metrics| metrics.sum("sni_router_cut_through_flows", &[]));
        eventually(PATIENCE, "this router has the flows", || (flows() >= (LONG / 2) as f64).then_some(())).unwrap();
    });
    let is_passthrough = |line: &Value| line["tenant"] == "pinniped";
    let lines = || -> Vec<Value> {
        let text = scene.router.stdout().unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(is_passthrough).collect()
    };
    let of_path = |path: &str| lines().iter().filter(|line| line["data_path"] == path).count() as u64;
    // Those that come between two routers are relayed.
    eventually(PATIENCE, "lines of carried connections", || (of_path("cut_through") > SHORT / 2).then_some(()))
        .unwrap();
    for line in lines() {
        assert_eq!(line["outcome"], "ok", "{line}");
        assert!(line["server_name"] == PASSTHROUGH && line["ja4"].is_string(), "{line}");
    }
    // The first router has found nothing to adopt.
    let adopted = of_each_round(scene.router.log(), &["INFO", "cut-through", "adopted="], "adopted=");
    assert_eq!(adopted.len(), ROUNDS + 1);
    assert!(adopted.iter().skip(1).all(|flows| *flows >= LONG / 2), "{adopted:?}");
}

/// A round is a reload and an upgrade, `before_upgrade` between the two.
fn rage(scene: &Scene, before_upgrade: impl Fn()) {
    // Another one's clients would cost what is measured.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(scene.router.config_file()).unwrap();
    let (done, connections, open_now) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (router, address, client) = (&scene.router, scene.router.address(), &scene.client);
    let mut departures = Vec::new();
    thread::scope(|scope| {
        for number in 0..LONG {
            let (done, open_now) = (&done, &open_now);
            thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn_scoped(scope, move || {
                    scene.network.client.enter().unwrap();
                    // A few transfer as fast as they can, so that sockets and pipes are full when the router is replaced.
                    let pause = if number < BULK { Duration::ZERO } else { Duration::from_millis(250) };
                    let chunk = if number < BULK { 1_000_000 } else { 2_000 };
                    if number % 2 == 0 {
                        let connection = open(address);
                        open_now.fetch_add(1, Ordering::SeqCst);
                        transfer(&mut connection.stream(), number, chunk, pause, done);
                    } else {
                        let mut connection = client.connect(address, TERMINATE).unwrap();
                        open_now.fetch_add(1, Ordering::SeqCst);
                        transfer(&mut connection, number, chunk, pause, done);
                    }
                })
                .unwrap();
        }
        for number in 0..4 {
            let (done, connections) = (&done, &connections);
            scope.spawn(move || {
                scene.network.client.enter().unwrap();
                while !done.load(Ordering::SeqCst) || connections.load(Ordering::SeqCst) < SHORT {
                    if number == 0 {
                        let mut stream = client.connect(address, TERMINATE).unwrap();
                        exchange(&mut stream, b"ping");
                    } else {
                        drop(open(address));
                    }
                    connections.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _stop = StopOnDrop(&done);
        let all_open = || (open_now.load(Ordering::SeqCst) == LONG).then_some(());
        eventually(PATIENCE, "the long connections are there", all_open).unwrap();
        for number in 1..=ROUNDS {
            let tenant = format!(
                "  - {{ name: t{number}, hostnames: [t{number}.test], mode: Passthrough, backends: [{{ address: \"127.0.0.1:9\" }}] }}\n"
            );
            replace(router, &(text.clone() + &tenant));
            router.signal(Signal::SIGHUP).unwrap();
            logged(router, &["the new configuration is in force"], number);
            before_upgrade();
            let former = routers(router);
            scene.upgrade().unwrap();
            let began = Instant::now();
            eventually(PATIENCE, "the former router has gone", || (!is_running(former[0])).then_some(())).unwrap();
            departures.push(began.elapsed());
            logged(router, &["this supervisor goes on as another version"], number);
            assert_eq!(routers(router).len(), 1);
        }
    });
    assert!(connections.load(Ordering::SeqCst) >= SHORT);
    assert_eq!(router.log().with(&["took over from the former router"]).len(), ROUNDS);
    eventually(PATIENCE, "former terminators end", || (terminators(router).len() == 1).then_some(())).unwrap();
    for trouble in ["ended unasked", "connections left", "is lost", "does not hand over", "takes no connections"] {
        assert!(router.log().with(&[trouble]).is_empty(), "{trouble}");
    }
    departures.sort();
    println!("former routers were there for {departures:?}");
    assert!(departures[ROUNDS - 1] < OF_A_FORMER_ROUTER, "former routers were there for {departures:?}");
}

/// The number behind `field` in each line with these words.
fn of_each_round(log: &Log, words: &[&str], field: &str) -> Vec<u64> {
    let number = |line: &String| line.split_once(field)?.1.split(' ').next()?.parse().ok();
    log.with(words).iter().map(|line| number(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// Sends and checks until it is done.
pub(crate) fn transfer(stream: &mut (impl Read + Write), number: u64, bytes: u64, pause: Duration, done: &AtomicBool) {
    let pattern = Pattern::new(number);
    let mut piece = Vec::new();
    pattern.send(&mut piece, bytes).unwrap();
    while !done.load(Ordering::SeqCst) {
        // Less than the queues of the sockets on the way hold: nobody reads while we write.
        for part in piece.chunks(100_000) {
            stream.write_all(part).unwrap();
            stream.flush().unwrap();
            let mut echo = vec![0; part.len()];
            stream.read_exact(&mut echo).unwrap();
            assert!(echo == part, "connection {number}: wrong bytes");
        }
        thread::sleep(pause);
    }
}

struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

static ALONE: Mutex<()> = Mutex::new(());
const ROUNDS: usize = 20;
const OF_A_FORMER_ROUTER: Duration = Duration::from_secs(2);
const SHORT: u64 = 10_000;
const LONG: u64 = 500;
const BULK: u64 = 8;
