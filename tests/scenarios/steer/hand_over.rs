//! One router process after the other takes the steering over while clients connect as fast as they can.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::binaries;
use tests::http;
use tests::log::Log;
use tests::patience::{PATIENCE, eventually};
use tests::raw_client::RawClient;
use tests::router_process::send_signal;
use tests::scratch::Scratch;
use tests::tls_client::tcp;

use super::site::{Greeting, Site, greet, greet_slowly, setup};

#[test]
fn new_processes_take_over_in_a_storm_and_no_connection_is_refused() {
    let Some(site) = Site::new("the hand-over of steered listeners") else { return };
    let scratch = Scratch::new().unwrap();
    let mut current = Generation::start(&site, &scratch, STEERING);
    let mut retired = Vec::new();
    let over = AtomicBool::new(false);

    let greetings = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (site, over) = (&site, &over);
                scope.spawn(move || site.at_client(|| storm(number, over)))
            })
            .collect();
        for _ in 1..GENERATIONS {
            let next = Generation::start(&site, &scratch, STEERING);
            next.log.wait_for(PATIENCE, &["steer", "took over"]).unwrap();
            let previous = std::mem::replace(&mut current, next);
            previous.retire();
            retired.push(previous);
        }
        for generation in &mut retired {
            generation.wait_for_exit();
        }
        over.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for client in clients {
            for (greeting, count) in client.join().unwrap() {
                *all.entry(greeting).or_insert(0) += count;
            }
        }
        all
    });
    let echoed = greetings.get(&Greeting::Echoed).copied().unwrap_or_default();
    println!("{GENERATIONS} processes served {echoed} connections");
    assert_eq!(greetings.into_iter().collect::<Vec<_>>(), [(Greeting::Echoed, echoed)]);
    assert!(echoed > 1_000, "{echoed} connections are no storm");
}

#[test]
fn steering_begins_again_after_an_orderly_end() {
    let Some(site) = Site::new("steering after an orderly end") else { return };
    let scratch = Scratch::new().unwrap();
    let steered = SocketAddr::from(([10, 99, 0, 1], 20_000));
    let mut first = Generation::start(&site, &scratch, STEERING);
    first.retire();
    first.wait_for_exit();
    assert_eq!(site.at_client(|| greet(steered)), Greeting::Refused);
    let second = Generation::start(&site, &scratch, STEERING);
    assert_eq!(site.at_client(|| greet(steered)), Greeting::Echoed);
    assert!(second.log.with(&["took over"]).is_empty(), "nothing was left to take over");
}

#[test]
fn a_configuration_without_steer_ends_what_a_killed_router_left() {
    let Some(site) = Site::new("the end of another router's steering") else { return };
    let scratch = Scratch::new().unwrap();
    let steered = SocketAddr::from(([10, 99, 0, 1], 20_000));
    let other = site.network.router.run(|| Ok(TcpListener::bind(steered)?)).unwrap();
    let denying = [STEERING[0], "clients: { deny: [\"10.0.1.2/32\"] }"];
    drop(Generation::start(&site, &scratch, &denying));
    assert_eq!(site.at_client(|| greet(steered)), Greeting::Refused, "the program has outlived its router");

    let _router = Generation::start(&site, &scratch, &[]);
    site.at_client(|| drop(RawClient::connect(steered).unwrap()));
    drop(other);
}

/// Connects until it is over; one client sends its hello so late that the router changes in between.
fn storm(number: u16, over: &AtomicBool) -> BTreeMap<Greeting, u64> {
    let mut greetings = BTreeMap::new();
    let mut index = number;
    while !over.load(Ordering::Relaxed) {
        index = index.wrapping_add(CLIENTS);
        let address = SocketAddr::from(([10, 99, (index >> 8) as u8, index as u8], 20_000 + index % 10_000));
        let greeting = match number {
            0 => greet_slowly(address, || thread::sleep(LATE)),
            _ => greet(address),
        };
        *greetings.entry(greeting).or_insert(0) += 1;
    }
    greetings
}

/// A router without a supervisor, with addresses of its own and the steering of all.
struct Generation {
    process: Child,
    log: Log,
}

impl Generation {
    fn start(site: &Site, scratch: &Scratch, listener_lines: &[&str]) -> Self {
        let start = || {
            let setup = listener_lines.iter().fold(setup(site), |setup, line| setup.listener_line(line));
            let written = setup.write(scratch)?;
            let (log, stderr) = Log::begin_in(scratch.path())?;
            let process = Command::new(binaries::sni_router()?)
                .args(["router", "--config"])
                .arg(&written.path)
                .env("NO_COLOR", "1")
                .stdin(Stdio::null())
                .stderr(stderr)
                .spawn()?;
            let generation = Self { process, log };
            eventually(PATIENCE, "the router is ready", || {
                http::get(&mut tcp(written.admin).ok()?, "localhost", "/readyz").ok().filter(|page| page.status == 200)
            })?;
            Ok(generation)
        };
        site.network.router.run(start).unwrap()
    }

    fn retire(&self) {
        send_signal(self.process.id().try_into().unwrap(), Signal::SIGTERM).unwrap();
    }

    fn wait_for_exit(&mut self) {
        let process = &mut self.process;
        let status = eventually(PATIENCE, "the old router has drained", || process.try_wait().ok().flatten()).unwrap();
        assert!(status.success(), "{status}: {}", self.log.lines().join("\n"));
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const STEERING: &[&str] = &["steer: [\"10.99.0.0/16:20000-29999\"]"];
const GENERATIONS: usize = 10;
const CLIENTS: u16 = 4;
/// Longer than the kernel keeps silent connections to itself.
const LATE: Duration = Duration::from_millis(1_300);
