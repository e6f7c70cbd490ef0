//! The configuration file changes while connections come and go: the difference is applied, everything else stays.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::authority::{Authority, KeyKind};
use tests::client_tools::require_root;
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::ports::free_address;
use tests::processes::{Pid, is_running};
use tests::raw_client::RawClient;
use tests::router_process::{RouterProcess, send_signal};
use tests::setup::{Setup, Tenant};
use tests::tls_client::{TlsClient, TlsStream};

use crate::two_tenants::{PASSTHROUGH, TERMINATE};
use crate::upgrade::storm::transfer;

#[test]
fn tenants_come_change_and_go_and_established_connections_do_not_notice() {
    let mut scene = Scene::start();
    let (first, second) = (scene.first.address().to_string(), scene.second.address().to_string());
    let former = scene.router.terminator_pid("acme").unwrap();

    // Both tenants get another backend and another name, and a third tenant comes.
    let more = format!(
        "  - {{ name: late, hostnames: [late.test], mode: Passthrough, backends: [{{ address: \"{second}\" }}] }}\n"
    );
    scene.change(|text| text.replace(&first, &second).replace(PASSTHROUGH, "other.test") + &more);
    scene.router.wait_for_metric(RELOADS, OK, 1.0).unwrap();
    scene.ping_established();
    assert_eq!(scene.second.accepted(), 0);
    passthrough(&scene.router, "late.test");
    passthrough(&scene.router, "other.test");
    scene.terminated();
    assert_eq!((scene.first.accepted(), scene.second.accepted()), (2, 3));
    assert_eq!(rejected(&scene.router, PASSTHROUGH), 112);
    let successors: Vec<_> = terminators(&scene.router).into_iter().filter(|pid| *pid != former).collect();
    assert!(is_running(former), "the former terminator has a connection left");
    assert_eq!(successors.len(), 1);

    // One goes altogether, the other one loses its process: its last connection is what the process lives for.
    scene.change(|text| {
        let (head, tail) = text.split_once("  - name: acme").unwrap();
        let (_acme, tail) = tail.split_once("  - name: pinniped").unwrap();
        format!("{head}  - name: pinniped{tail}")
    });
    scene.router.wait_for_metric(RELOADS, OK, 2.0).unwrap();
    assert_eq!(rejected(&scene.router, TERMINATE), 112);
    eventually(PATIENCE, "a terminator that nobody needs ends", || (!is_running(successors[0])).then_some(())).unwrap();
    scene.ping_established();
    let Established { passthrough, terminated } = scene.established;
    drop((passthrough, terminated));
    eventually(PATIENCE, "the former terminator ends", || (!is_running(former)).then_some(())).unwrap();
    assert!(scene.router.log().with(&["ended unasked"]).is_empty());
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_a_crash_then_does_not_either() {
    let mut scene = Scene::start();
    let good = fs::read_to_string(scene.router.config_file()).unwrap();
    let rubbish = |_: String| "listeners: [\u{7}".to_owned();
    let wrong = |text: String| text.replace("mode: Terminate", "mode: Terminated");
    let empty = |_: String| String::new();
    for (count, damage) in (1..).zip([rubbish as fn(String) -> String, wrong, empty]) {
        scene.change(|_| damage(good.clone()));
        scene.router.wait_for_metric(RELOADS, &[("outcome", "invalid")], f64::from(count)).unwrap();
        scene.terminated();
    }
    scene.router.log().wait_for(PATIENCE, &["not reloaded", "config.yaml:", "Terminated"]).unwrap();
    fs::remove_file(scene.router.config_file()).unwrap();
    scene.router.wait_for_metric(RELOADS, &[("outcome", "invalid")], 4.0).unwrap();
    assert_eq!(scene.router.metrics().unwrap().sum("sni_router_config_last_reload_ok", &[]), 0.0);

    for pid in [scene.router.terminator_pid("acme").unwrap(), scene.router.router_pid().unwrap()] {
        send_signal(pid, Signal::SIGKILL).unwrap();
        eventually(PATIENCE, "the process is gone", || (!is_running(pid)).then_some(())).unwrap();
        scene.router.wait_until_ready().unwrap();
        scene.terminated();
        passthrough(&scene.router, PASSTHROUGH);
    }

    scene.change(|_| good.clone() + "  - { name: late, hostnames: [late.test], mode: Passthrough, backends: [{ address: \"127.0.0.1:9\" }] }\n");
    scene.router.wait_for_metric(RELOADS, OK, 1.0).unwrap();
    assert_eq!(scene.router.metrics().unwrap().sum("sni_router_config_last_reload_ok", &[]), 1.0);
}

#[test]
fn what_cannot_be_done_is_refused_as_a_whole() {
    let mut scene = Scene::start();
    let more =
        "  - { name: late, hostnames: [late.test], mode: Passthrough, backends: [{ address: \"127.0.0.1:9\" }] }\n";
    let good = fs::read_to_string(scene.router.config_file()).unwrap();
    scene.change(|text| format!("workers: 7\n{}{more}", text.replace("/run\n", "/elsewhere\n")));
    scene.router.wait_for_metric(RELOADS, REFUSED, 1.0).unwrap();
    let why = "config.yaml:2:1: runtimeDir: cannot be changed by a reload";
    scene.router.log().wait_for(PATIENCE, &["not reloaded", why]).unwrap();

    let taken = Echo::start().unwrap();
    let listener = format!("listeners:\n  - {{ name: more, address: \"{}\" }}\n", taken.address());
    scene.change(|_| good.replace("listeners:\n", &listener) + more);
    scene.router.wait_for_metric(RELOADS, REFUSED, 2.0).unwrap();
    scene.router.log().wait_for(PATIENCE, &["not reloaded", "listener more", "Address already in use"]).unwrap();
    assert_eq!(rejected(&scene.router, "late.test"), 112);
    scene.ping_established();
}

#[test]
fn listeners_come_and_go_and_those_that_stay_keep_their_socket() {
    let mut scene = Scene::start();
    let (address, new) = (scene.router.address(), free_address().unwrap());
    let before = fs::read_to_string(scene.router.config_file()).unwrap();
    scene.change(|text| {
        text.replace("listeners:\n", &format!("listeners:\n  - {{ name: more, address: \"{new}\" }}\n"))
    });
    scene.router.wait_for_metric(RELOADS, OK, 1.0).unwrap();
    let connect = |address| {
        let client = RawClient::connect(address)?;
        let hello = Hello::named(PASSTHROUGH).records();
        client.send(&hello)?;
        anyhow::ensure!(client.read(hello.len())? == hello, "the echo is another one");
        anyhow::Ok(client)
    };
    let on_new = connect(new).unwrap();
    connect(address).unwrap();

    scene.change(|_| before.clone());
    scene.router.wait_for_metric(RELOADS, OK, 2.0).unwrap();
    eventually(PATIENCE, "the listener is closed", || connect(new).is_err().then_some(())).unwrap();
    on_new.send(b"still").unwrap();
    assert_eq!(on_new.read(5).unwrap(), b"still");

    // Another address under the same name is another listener.
    scene.change(|text| text.replace(&address.to_string(), &new.to_string()));
    scene.router.wait_for_metric(RELOADS, OK, 3.0).unwrap();
    connect(new).unwrap();
    eventually(PATIENCE, "the former address is closed", || connect(address).is_err().then_some(())).unwrap();
    scene.ping_established();
}

#[test]
fn a_listener_that_goes_comes_back_while_it_still_serves_who_waits_there() {
    let mut scene = Scene::start();
    let (before, new) = (fs::read_to_string(scene.router.config_file()).unwrap(), free_address().unwrap());
    let more = before.replace("listeners:\n", &format!("listeners:\n  - {{ name: more, address: \"{new}\" }}\n"));
    let hello = Hello::named(PASSTHROUGH).records();
    let say_hello = || {
        let client = RawClient::connect(new)?;
        client.send(&hello)?;
        anyhow::Ok(client)
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&done);
        // A queue into which somebody comes all the time is served for a second after the listener has gone.
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    drop(say_hello());
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        for (text, count) in [&more, &before].into_iter().cycle().zip(1..=7) {
            scene.change(|_| text.clone());
            let reloaded = scene.router.wait_for_metric(RELOADS, OK, f64::from(count));
            reloaded.unwrap_or_else(|error| panic!("{error}\n{}", scene.router.log().with(&["reload"]).join("\n")));
        }
    });
    assert_eq!(say_hello().unwrap().read(hello.len()).unwrap(), hello);
    assert_eq!(scene.router.metrics().unwrap().sum(RELOADS, REFUSED), 0.0);
    scene.ping_established();
}

#[test]
fn a_listener_may_come_on_a_port_that_needs_privileges() {
    if !require_root("a port below 1024").unwrap() {
        return;
    }
    let mut scene = Scene::start();
    // Of its own within 127.0.0.0/8, so that nobody else has its ports.
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let new = SocketAddr::from(([127, 77, high, low], 443));
    scene.change(|text| {
        text.replace("listeners:\n", &format!("listeners:\n  - {{ name: more, address: \"{new}\" }}\n"))
    });
    scene.router.wait_for_metric(RELOADS, OK, 1.0).unwrap();
    let client = RawClient::connect(new).unwrap();
    let hello = Hello::named(PASSTHROUGH).records();
    client.send(&hello).unwrap();
    assert_eq!(client.read(hello.len()).unwrap(), hello);
    scene.ping_established();
}

#[test]
fn a_thousand_reloads_under_load_reset_nothing() {
    let mut scene = Scene::start();
    let text = fs::read_to_string(scene.router.config_file()).unwrap();
    let (done, connections) = (AtomicBool::new(false), AtomicU64::new(0));
    let Scene { router, client, .. } = &scene;
    thread::scope(|scope| {
        for client_number in 0..4 {
            let (done, connections) = (&done, &connections);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    if client_number % 2 == 0 {
                        passthrough(router, PASSTHROUGH);
                    } else {
                        ping(&mut client.connect(router.address(), TERMINATE).unwrap());
                    }
                    connections.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // Long ones, whose every byte is looked at.
        for number in 0..4 {
            let done = &done;
            scope.spawn(move || {
                if number % 2 == 0 {
                    let connection = passthrough(router, PASSTHROUGH);
                    transfer(&mut connection.stream(), number, PIECE, PAUSE, done);
                } else {
                    transfer(&mut client.connect(router.address(), TERMINATE).unwrap(), number, PIECE, PAUSE, done);
                }
            });
        }
        let _stop = StopOnDrop(&done);
        for number in 1..=RELOAD_COUNT {
            let tenant = format!(
                "  - {{ name: t{number}, hostnames: [t{number}.test], mode: Passthrough, backends: [{{ address: \"127.0.0.1:9\" }}] }}\n"
            );
            // Now and then something that the terminator sees, so that it is replaced.
            let idle = if number % 50 == 0 { "mode: Terminate\n    idleTimeout: 11m" } else { "mode: Terminate" };
            replace(router, &(text.replace("mode: Terminate", idle) + &tenant));
            router.signal(Signal::SIGHUP).unwrap();
            router.wait_for_metric(RELOADS, OK, f64::from(number)).unwrap();
        }
    });
    assert!(connections.load(Ordering::SeqCst) > 100);
    let metrics = router.metrics().unwrap();
    assert_eq!(metrics.sum(RELOADS, &[("outcome", "invalid")]) + metrics.sum(RELOADS, REFUSED), 0.0);
    scene.ping_established();
    let one_terminator = || terminators(&scene.router).len() <= 2;
    eventually(PATIENCE, "former terminators end", || one_terminator().then_some(())).unwrap();
}

/// A router with one established connection of each mode.
pub(crate) struct Scene {
    pub(crate) router: RouterProcess,
    client: TlsClient,
    established: Established,
    first: Echo,
    second: Echo,
}

pub(crate) struct Established {
    passthrough: RawClient,
    terminated: TlsStream,
}

impl Scene {
    pub(crate) fn start() -> Self {
        Self::start_with(|setup| setup)
    }

    /// The same, with more lines of configuration.
    pub(crate) fn start_with(more: impl FnOnce(Setup) -> Setup) -> Self {
        let authority = Authority::new("scenario CA").unwrap();
        let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
        let (first, second) = (Echo::start().unwrap(), Echo::start().unwrap());
        let setup = Setup::new()
            .tenant(Tenant::terminate("acme", &[TERMINATE], first.address(), &certificate))
            .tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], first.address()));
        let router = RouterProcess::start(more(setup)).unwrap();
        let client = TlsClient::trusting(&authority).unwrap();
        let mut terminated = client.connect(router.address(), TERMINATE).unwrap();
        ping(&mut terminated);
        let established = Established { passthrough: passthrough(&router, PASSTHROUGH), terminated };
        Self { router, client, established, first, second }
    }

    pub(crate) fn change(&mut self, edit: impl Fn(String) -> String) {
        let text = fs::read_to_string(self.router.config_file()).unwrap_or_default();
        replace(&self.router, &edit(text));
    }

    pub(crate) fn ping_established(&mut self) {
        let Established { passthrough, terminated } = &mut self.established;
        ping(terminated);
        passthrough.send(b"ping").unwrap();
        assert_eq!(passthrough.read(4).unwrap(), b"ping");
    }

    pub(crate) fn terminated(&self) {
        ping(&mut self.client.connect(self.router.address(), TERMINATE).unwrap());
    }
}

/// As editors and configuration management do it: a new file in the place of the old one.
pub(crate) fn replace(router: &RouterProcess, text: &str) {
    let new = router.folder().join("config.edited");
    fs::write(&new, text).unwrap();
    fs::rename(&new, router.config_file()).unwrap();
}

/// A connection that the echo behind the name has answered.
pub(crate) fn passthrough(router: &RouterProcess, name: &str) -> RawClient {
    let client = RawClient::connect(router.address()).unwrap();
    let hello = Hello::named(name).records();
    client.send(&hello).unwrap();
    assert_eq!(client.read(hello.len()).unwrap(), hello);
    client
}

/// The alert that the name gets.
fn rejected(router: &RouterProcess, name: &str) -> u8 {
    let client = RawClient::connect(router.address()).unwrap();
    client.send(&Hello::named(name).records()).unwrap();
    client.answer().alert().unwrap()
}

pub(crate) fn ping(stream: &mut TlsStream) {
    stream.write_all(b"ping").unwrap();
    stream.flush().unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}

pub(crate) fn terminators(router: &RouterProcess) -> Vec<Pid> {
    let serves = |pid: &Pid| tests::processes::command_line(*pid).iter().any(|word| word == "serve");
    router.pids().unwrap().into_iter().filter(serves).collect()
}

struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(crate) const RELOADS: &str = "sni_router_config_reloads_total";
pub(crate) const OK: &[(&str, &str)] = &[("outcome", "ok")];
pub(crate) const REFUSED: &[(&str, &str)] = &[("outcome", "refused")];
const RELOAD_COUNT: u32 = 1000;
/// Of a transfer: bytes, and then a while in which others have the processor.
const PIECE: u64 = 300_000;
const PAUSE: Duration = Duration::from_millis(50);
