//! The programs are replaced while connections come and go: nobody is refused or reset, no byte is lost, and nothing waits
//! for the former processes.

pub(crate) mod storm;

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use nix::sys::signal::Signal;
use tests::authority::{Authority, KeyKind};
use tests::binaries;
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::http::{self, Response};
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::processes::{self, Pid, is_running};
use tests::raw_client::RawClient;
use tests::router_process::{RouterProcess, send_signal};
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn what_is_under_way_goes_along_at_every_step_of_a_connection() {
    let mut scene = Scene::start();
    let address = scene.router.address();
    // Before the hello, within the hello, half-closed, and silent.
    let nothing = RawClient::connect(address).unwrap();
    let hello = Hello::named(PASSTHROUGH).records();
    let half = RawClient::connect(address).unwrap();
    half.send(&hello[..100]).unwrap();
    let ended = open(address);
    ended.finish().unwrap();
    let silent = open(address);
    let mut terminated = scene.client.connect(address, TERMINATE).unwrap();
    exchange(&mut terminated, b"before");
    let (former, supervisor) = (routers(&scene.router), scene.router.supervisor_pid().unwrap());
    let terminator = terminators(&scene.router)[0];
    scene.put_new_program();
    assert!(executable(supervisor).ends_with("(deleted)"), "{}", executable(supervisor));
    scene.upgrade().unwrap();
    eventually(PATIENCE, "the former router has gone", || (!is_running(former[0])).then_some(())).unwrap();
    logged(&scene.router, &["this supervisor goes on as another version"], 1);
    let others = scene.router.pids().unwrap().into_iter().filter(|pid| *pid != terminator);
    // One that has just ended has no program any more.
    let programs: Vec<_> = others.filter_map(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok()).collect();
    assert!(programs.len() >= 2, "the supervisor and its router: {programs:?}");
    assert!(programs.iter().all(|program| !program.to_string_lossy().ends_with("(deleted)")), "{programs:?}");
    nothing.send(&hello).unwrap();
    assert_eq!(nothing.read(hello.len()).unwrap(), hello);
    half.send(&hello[100..]).unwrap();
    assert_eq!(half.read(hello.len()).unwrap(), hello);
    assert!(ended.answer().bytes.is_empty());
    exchange(&mut silent.stream(), b"after");
    exchange(&mut terminated, b"after");
    let count = scene.router.metrics().unwrap().sum("sni_router_connections_active", &[("tenant", "pinniped")]);
    assert_eq!(count, 3.0, "connections that were handed over are counted");

    // The supervisor is in charge as before: it reloads, restarts, retires and drains.
    let text = fs::read_to_string(scene.router.config_file()).unwrap();
    replace(&scene.router, &text.replace(PASSTHROUGH, "other.test"));
    logged(&scene.router, &["the new configuration is in force"], 1);
    let crashed = routers(&scene.router)[0];
    send_signal(crashed, Signal::SIGKILL).unwrap();
    eventually(PATIENCE, "another router", || {
        routers(&scene.router).first().is_some_and(|router| *router != crashed).then_some(())
    })
    .unwrap();
    let other = Hello::named("other.test").records();
    let fresh = RawClient::connect(address).unwrap();
    fresh.send(&other).unwrap();
    assert_eq!(fresh.read(other.len()).unwrap(), other);
    exchange(&mut terminated, b"still");
    assert!(is_running(terminator), "it has a connection");
    drop(terminated);
    eventually(PATIENCE, "the former terminator ends", || (!is_running(terminator)).then_some(())).unwrap();
    drop(fresh);
    scene.router.signal(Signal::SIGTERM).unwrap();
    assert!(scene.router.wait_for_exit(PATIENCE).unwrap().success());
}

#[test]
fn a_supervisor_whose_program_cannot_follow_goes_on() {
    let scene = Scene::start();
    let supervisor = scene.router.supervisor_pid().unwrap();
    // It runs as a router and refuses everything else.
    let good = scene.program.with_extension("good");
    fs::rename(&scene.program, &good).unwrap();
    let script = format!("#!/bin/sh\n[ \"$1\" = router ] && exec {} \"$@\"\nexit 1\n", good.display());
    fs::write(&scene.program, script).unwrap();
    fs::set_permissions(&scene.program, fs::Permissions::from_mode(0o755)).unwrap();
    let established = open(scene.router.address());
    for _ in 0..2 {
        scene.upgrade().unwrap();
        exchange(&mut established.stream(), b"still");
    }
    logged(&scene.router, &["ERROR", "the supervisor goes on as the program that it was"], 2);
    assert_eq!(scene.router.supervisor_pid().unwrap(), supervisor);
    fs::rename(&good, &scene.program).unwrap();
    scene.upgrade().unwrap();
    logged(&scene.router, &["this supervisor goes on as another version"], 1);
    exchange(&mut established.stream(), b"still");
}

#[test]
fn a_new_program_that_does_not_start_leaves_the_former_one_in_charge() {
    let scene = Scene::start();
    let established = open(scene.router.address());
    let former = routers(&scene.router);
    let good = scene.program.with_extension("good");
    fs::rename(&scene.program, &good).unwrap();
    let broken: [(&[u8], u32, &str); 3] = [
        (b"#!/bin/sh\nexit 1\n", 0o755, "ended before it was ready"),
        (b"no program", 0o755, "Exec format error"),
        (b"#!/bin/sh\n", 0o644, "Permission denied"),
    ];
    for (content, mode, why) in broken {
        fs::write(&scene.program, content).unwrap();
        fs::set_permissions(&scene.program, fs::Permissions::from_mode(mode)).unwrap();
        let error = scene.upgrade().unwrap_err();
        assert!(error.contains("not upgraded") && error.contains(why), "{error}");
        exchange(&mut established.stream(), b"still");
        assert_eq!(routers(&scene.router), former);
        fs::remove_file(&scene.program).unwrap();
    }
    let error = scene.upgrade().unwrap_err();
    assert!(error.contains("No such file"), "{error}");
    scene.router.log().wait_for(PATIENCE, &["ERROR", "not upgraded, the former router goes on serving"]).unwrap();
    fs::rename(&good, &scene.program).unwrap();
    scene.upgrade().unwrap();
    exchange(&mut established.stream(), b"and now");
    assert_ne!(routers(&scene.router), former);
}

#[test]
fn whoever_asks_the_admin_endpoint_gets_an_answer_and_another_upgrade_is_not_forgotten() {
    let scene = Scene::start();
    let router = &scene.router;
    let at_address = || router.admin_get("/metrics");
    let at_socket = || {
        let mut stream = UnixStream::connect(router.folder().join("run/admin.sock"))?;
        http::get(&mut stream, "localhost", "/v1/tenants")
    };
    let (done, answers) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    thread::scope(|scope| {
        let ways: [&(dyn Fn() -> Result<Response> + Sync); 2] = [&at_address, &at_socket];
        let askers: Vec<_> = [0, 1, 0, 1]
            .into_iter()
            .map(|way| {
                let (done, answers) = (&done, &answers);
                scope.spawn(move || {
                    while !done.load(Ordering::SeqCst) {
                        let answer = ways[way]()?;
                        ensure!(answer.status == 200 && answer.body.ends_with('\n'), "{answer:?}");
                        answers[way].fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(())
                })
            })
            .collect();
        // Each the moment that the one before is answered, while the supervisor still becomes another version.
        let upgraded: Vec<_> = (0..UPGRADES).map(|_| scene.upgrade()).collect();
        done.store(true, Ordering::SeqCst);
        for asker in askers {
            asker.join().unwrap().unwrap();
        }
        assert_eq!(upgraded, [const { Ok(()) }; UPGRADES]);
    });
    assert!(answers.iter().all(|answers| answers.load(Ordering::SeqCst) > UPGRADES), "{answers:?}");
    logged(router, &["took over from the former router"], UPGRADES);
    eventually(PATIENCE, "one router is left", || (routers(router).len() == 1).then_some(())).unwrap();
    assert!(router.log().with(&["connections left"]).is_empty());
}

/// A router whose programs are its own to replace.
struct Scene {
    router: RouterProcess,
    client: TlsClient,
    program: std::path::PathBuf,
    network: Network,
    _echo: Echo,
}

impl Scene {
    fn start() -> Self {
        Self::on(Network::loopback(&anyhow!("so that nothing needs root")), |setup| setup)
    }

    fn on(network: Network, setup: impl FnOnce(Setup) -> Setup) -> Self {
        let authority = Authority::new("scenario CA").unwrap();
        let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
        let address = network.backend.free_address().unwrap();
        let echo = network.backend.run(|| Echo::start_on(address)).unwrap();
        let setup = setup(Setup::new().listener_address(network.router.address().into()))
            .tenant(Tenant::terminate("acme", &[TERMINATE], echo.address(), &certificate))
            .tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()));
        let router = network.router.run(|| RouterProcess::start_copy(setup)).unwrap();
        let program = router.program().to_owned();
        Self { router, client: TlsClient::trusting(&authority).unwrap(), program, network, _echo: echo }
    }

    /// The same program in another file.
    fn put_new_program(&self) {
        let new = self.program.with_extension("new");
        fs::copy(&self.program, &new).unwrap();
        fs::rename(&new, &self.program).unwrap();
    }

    /// As an operator does it; the error is what the command says.
    fn upgrade(&self) -> Result<(), String> {
        let mut command = Command::new(binaries::sni_router().unwrap());
        let output = command.args(["upgrade", "--config"]).arg(self.router.config_file()).output().unwrap();
        match output.status.code() {
            Some(0) => Ok(()),
            code => Err(format!("{code:?}: {}", String::from_utf8_lossy(&output.stderr))),
        }
    }
}

/// A passthrough connection that the echo has answered.
fn open(address: SocketAddr) -> RawClient {
    let client = RawClient::connect(address).unwrap();
    let hello = Hello::named(PASSTHROUGH).records();
    client.send(&hello).unwrap();
    assert_eq!(client.read(hello.len()).unwrap(), hello);
    client
}

fn exchange(stream: &mut (impl Read + Write), word: &[u8]) {
    stream.write_all(word).unwrap();
    stream.flush().unwrap();
    let mut echo = vec![0; word.len()];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(echo, word);
}

fn executable(pid: Pid) -> String {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap().to_string_lossy().into_owned()
}

fn replace(router: &RouterProcess, text: &str) {
    let new = router.folder().join("config.edited");
    fs::write(&new, text).unwrap();
    fs::rename(&new, router.config_file()).unwrap();
}

fn logged(router: &RouterProcess, words: &[&str], times: usize) {
    eventually(PATIENCE, &format!("{words:?} {times} times"), || {
        (router.log().with(words).len() >= times).then_some(())
    })
    .unwrap();
}

fn routers(router: &RouterProcess) -> Vec<Pid> {
    with_word(router, "router")
}

fn terminators(router: &RouterProcess) -> Vec<Pid> {
    with_word(router, "serve")
}

fn with_word(router: &RouterProcess, word: &str) -> Vec<Pid> {
    let children = processes::descendants(router.supervisor_pid().unwrap());
    let is_one = |pid: &Pid| processes::command_line(*pid).get(1).is_some_and(|first| first == word);
    children.into_iter().filter(is_one).collect()
}

const UPGRADES: usize = 8;
