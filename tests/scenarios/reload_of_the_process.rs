//! A reload changes what a router process begins with: another one takes over, and nobody is refused or reset.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use tests::client_tools::require_root;
use tests::hello::Hello;
use tests::http;
use tests::metrics::Metrics;
use tests::patience::{PATIENCE, eventually};
use tests::ports::free_address;
use tests::processes::{Pid, is_running, status};
use tests::raw_client::RawClient;
use tests::router_process::{RouterProcess, send_signal};
use tests::tls_client::tcp;

use crate::reload::{OK, REFUSED, RELOADS, Scene, passthrough, replace, terminators};
use crate::two_tenants::PASSTHROUGH;

#[test]
fn other_numbers_of_workers_under_load_refuse_and_reset_nobody() {
    let mut scene = Scene::start_with(|setup| setup.line("workers: 2"));
    let text = fs::read_to_string(scene.router.config_file()).unwrap();
    let (done, connections) = (AtomicBool::new(false), AtomicU64::new(0));
    for workers in [5, 1, 3] {
        let former = scene.router.router_pid().unwrap();
        let router = &scene.router;
        done.store(false, Ordering::SeqCst);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        drop(passthrough(router, PASSTHROUGH));
                        connections.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let _stop = StopOnDrop(&done);
            replace(router, &text.replace("workers: 2", &format!("workers: {workers}")));
            let pid = successor(router, former);
            eventually(PATIENCE, "the workers", || (threads(pid, "worker-") == workers).then_some(())).unwrap();
            let now = connections.load(Ordering::SeqCst);
            let more = || (connections.load(Ordering::SeqCst) > now + 50).then_some(());
            eventually(PATIENCE, "connections go on", more).unwrap();
        });
        scene.ping_established();
        scene.terminated();
    }
    assert_eq!(reloads(&scene.router, REFUSED), 0.0);
    let active = [("tenant", "pinniped")];
    assert_eq!(scene.router.metrics().unwrap().sum("sni_router_connections_active", &active), 1.0);
    for trouble in ["ended unasked", "connections left", "is lost", "WARN", "ERROR"] {
        assert_eq!(scene.router.log().with(&[trouble]), [] as [String; 0], "{trouble}");
    }
}

#[test]
fn whoever_has_not_said_all_of_its_hello_on_a_listener_that_goes_is_served_as_by_the_former_configuration() {
    let mut scene = Scene::start_with(|setup| setup.line("workers: 2").listener("more"));
    let (router, more) = (&scene.router, scene.router.listener("more").unwrap());
    let former = router.router_pid().unwrap();
    let hello = Hello::named(PASSTHROUGH).records();
    let clients: Vec<_> = (0..8).map(|_| RawClient::connect(more).unwrap()).collect();
    clients.iter().for_each(|client| client.send(&hello[..100]).unwrap());
    let text = fs::read_to_string(router.config_file()).unwrap().replace("workers: 2", "workers: 3");
    let (head, tail) = text.split_once("  - name: more\n").unwrap();
    let tenants = tail.find("tenants:").unwrap();
    replace(router, &format!("{head}{}", &tail[tenants..]));
    router.log().wait_for(PATIENCE, &["handing over to the next router"]).unwrap();
    eventually(PATIENCE, "the listener is closed", || tcp(more).is_err().then_some(())).unwrap();
    assert!(is_running(former), "it has clients that the next one does not know");
    for client in &clients {
        client.send(&hello[100..]).unwrap();
        assert_eq!(client.read(hello.len()).unwrap(), hello);
    }
    successor(router, former);
    for client in &clients {
        client.send(b"still").unwrap();
        assert_eq!(client.read(5).unwrap(), b"still");
    }
    scene.ping_established();
}

#[test]
fn another_user_of_the_router_is_let_in_by_every_terminator() {
    if !require_root("the uid of the router").unwrap() {
        return;
    }
    let mut scene = Scene::start();
    let former = scene.router.router_pid().unwrap();
    scene.change(|text| format!("user: {OTHER_UID}\n{text}"));
    let pid = successor(&scene.router, former);
    assert_eq!(status(pid).unwrap().uids().unwrap(), [OTHER_UID; 4]);
    scene.ping_established();
    scene.terminated();
    let run = scene.router.folder().join("run");
    let folder = fs::metadata(run.join("terminators/acme")).unwrap();
    assert_eq!((folder.gid(), folder.mode() & 0o777), (OTHER_UID, 0o710), "and nobody else");
    assert_eq!(fs::metadata(run.join("demand.sock")).unwrap().uid(), OTHER_UID);

    // The next ones find their way too: of a terminator that crashed, of a router that crashed, and of a reload.
    for pid in [terminators(&scene.router).pop().unwrap(), pid] {
        send_signal(pid, Signal::SIGKILL).unwrap();
        eventually(PATIENCE, "the process is gone", || (!is_running(pid)).then_some(())).unwrap();
        scene.router.wait_until_ready().unwrap();
        scene.terminated();
    }
    scene.change(|text| text.replace(PASSTHROUGH, "other.test"));
    scene.router.wait_for_metric(RELOADS, OK, 1.0).unwrap();
    drop(passthrough(&scene.router, "other.test"));
}

#[test]
fn the_admin_endpoint_moves_and_a_taken_address_leaves_it_where_it_is() {
    let mut scene = Scene::start();
    let (admin, former) = (scene.router.admin(), scene.router.router_pid().unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let more =
        "  - { name: late, hostnames: [late.test], mode: Passthrough, backends: [{ address: \"127.0.0.1:9\" }] }\n";
    let good = fs::read_to_string(scene.router.config_file()).unwrap();
    scene.change(|text| text.replace(&admin.to_string(), &address.to_string()) + more);
    scene.router.wait_for_metric(RELOADS, REFUSED, 1.0).unwrap();
    scene.router.log().wait_for(PATIENCE, &["not reloaded", &format!("admin: bind {address}")]).unwrap();
    assert_eq!(scene.router.router_pid().unwrap(), former);
    assert_eq!(scene.router.metrics().unwrap().sum("sni_router_config_last_reload_ok", &[]), 0.0);
    scene.ping_established();

    let free = free_address().unwrap();
    scene.change(|_| good.replace(&admin.to_string(), &free.to_string()));
    successor(&scene.router, former);
    let page = http::get(&mut tcp(free).unwrap(), "localhost", "/metrics").unwrap();
    assert_eq!(Metrics::parse(&page.body).unwrap().sum(RELOADS, OK), 1.0);
    eventually(PATIENCE, "the former address is closed", || tcp(admin).is_err().then_some(())).unwrap();
    scene.ping_established();
    scene.terminated();
}

#[test]
fn a_router_that_cannot_start_leaves_the_former_one_and_its_terminators_in_charge() {
    let mut scene = Scene::start();
    let (former, serving) = (scene.router.router_pid().unwrap(), terminators(&scene.router));
    let good = fs::read_to_string(scene.router.config_file()).unwrap();
    // Found out by the new process alone, when its sockets are bound already.
    let head = format!("workers: 5\naccessLog: {{ path: {}/missing/log }}\n", scene.router.folder().display());
    let free = free_address().unwrap();
    let wrong = good.replace("listeners:\n", &format!("listeners:\n  - {{ name: more, address: \"{free}\" }}\n"));
    scene.change(|_| head.clone() + &wrong.replace("mode: Terminate", "mode: Terminate\n    idleTimeout: 11m"));
    scene.router.wait_for_metric(RELOADS, REFUSED, 1.0).unwrap();
    let why = ["not reloaded", "another router process for workers, accessLog", "ended before it was ready"];
    scene.router.log().wait_for(PATIENCE, &why).unwrap();
    scene.router.log().wait_for(PATIENCE, &["accessLog: open", "missing"]).unwrap();
    assert!(
        shown(&scene.router).contains("  not reloaded: another router process for workers, accessLog: "),
        "{}",
        shown(&scene.router)
    );
    assert_eq!((scene.router.router_pid().unwrap(), terminators(&scene.router)), (former, serving));
    assert!(tcp(free).is_err(), "a listener that came to nothing");
    scene.ping_established();
    scene.terminated();

    // What is mended is in force, and everything can be asked for as before.
    fs::create_dir(scene.router.folder().join("missing")).unwrap();
    scene.router.signal(Signal::SIGHUP).unwrap();
    successor(&scene.router, former);
    tcp(free).unwrap();
    assert!(!shown(&scene.router).contains("not reloaded"), "{}", shown(&scene.router));
    drop(passthrough(&scene.router, PASSTHROUGH));
    let log = scene.router.folder().join("missing/log");
    let is_logged = || fs::read_to_string(&log).ok().filter(|lines| lines.contains(PASSTHROUGH)).map(drop);
    eventually(PATIENCE, "a line in the access log", is_logged).unwrap();
    scene.ping_established();
    scene.terminated();
}

/// The router in the place of `former`, once that has gone.
pub(crate) fn successor(router: &RouterProcess, former: Pid) -> Pid {
    eventually(PATIENCE, "another router has taken over", || {
        let pid = router.router_pid().ok().filter(|pid| *pid != former)?;
        (!is_running(former)).then_some(pid)
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", router.log().lines().join("\n")))
}

/// What `sni-router status` says.
pub(crate) fn shown(router: &RouterProcess) -> String {
    let mut status = Command::new(router.program());
    let status = status.args(["status", "--admin"]).arg(router.folder().join("run/admin.sock")).output();
    String::from_utf8(status.unwrap().stdout).unwrap()
}

fn reloads(router: &RouterProcess, outcome: &[(&str, &str)]) -> f64 {
    router.metrics().unwrap().sum(RELOADS, outcome)
}

fn threads(pid: Pid, prefix: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Neither the router's default nor of the range of tenants.
const OTHER_UID: u32 = 61_000;
