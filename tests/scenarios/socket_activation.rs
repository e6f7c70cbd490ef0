//! Listening sockets that systemd passes and keeps.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::ports::free_address;
use tests::processes::{Pid, is_running, open_descriptors};
use tests::raw_client::RawClient;
use tests::router_process::RouterProcess;
use tests::service_manager::ServiceManager;
use tests::setup::{Setup, Tenant};

use crate::two_tenants::PASSTHROUGH;

#[test]
fn sockets_of_a_unit_are_used_by_name_or_by_address_and_others_are_named() {
    let echo = Echo::start().unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let (by_name, stranger) = (elsewhere.local_addr().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let strange = stranger.local_addr().unwrap();
    let inode = |socket: &TcpListener| {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(socket));
        format!("socket:[{}]", fs::metadata(path).unwrap().ino())
    };
    let mut inodes = vec![inode(&elsewhere)];
    let (router, manager) = RouterProcess::start_as_service(setup(&echo).listener("more"), |folder, written| {
        let at_address = TcpListener::bind(written.listeners[1].1)?;
        inodes.push(inode(&at_address));
        let manager = ServiceManager::start(folder)?.unit("tls", elsewhere).unit("sni-router.socket", at_address);
        Ok(manager.unit("other", stranger))
    })
    .unwrap();
    // One socket, two workers: whichever is first accepts.
    for address in [by_name, router.listener("more").unwrap()] {
        (0..20).for_each(|_| echoed(address).unwrap());
    }
    assert_eq!(echo.accepted(), 40);
    let descriptors = open_descriptors(router.router_pid().unwrap()).unwrap();
    assert!(inodes.iter().all(|inode| descriptors.contains(inode)), "{inodes:?} {descriptors:?}");
    let warning = router.log().wait_for(PATIENCE, &["WARN", "no listener's", "other"]).unwrap();
    assert!(warning.contains(&strange.to_string()), "{warning}");
    assert_eq!(router.log().with(&["workers share the listening sockets"]).len(), 2);
    // The unit's sockets are systemd's own; of ours there is one.
    assert_eq!(kept(&manager), [("admin.address", 1)]);
    assert!(echoed(router.address()).is_err(), "the configured address of a listener that has another socket");
}

#[test]
fn a_unit_that_lets_its_port_be_shared_gets_a_socket_per_worker() {
    let echo = Echo::start().unwrap();
    let (router, manager) = RouterProcess::start_as_service(setup(&echo), |folder, written| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&written.listeners[0].1.into())?;
        socket.listen(128)?;
        Ok(ServiceManager::start(folder)?.unit("tls", socket.into()))
    })
    .unwrap();
    (0..40).for_each(|_| echoed(router.address()).unwrap());
    assert!(router.log().with(&["workers share the listening sockets"]).is_empty());
    // The one beside it.
    assert_eq!(kept(&manager), [("admin.address", 1), ("listener.tls", 1)]);
}

#[test]
fn a_supervisor_that_was_killed_comes_back_and_nobody_is_refused_meanwhile() {
    let echo = Echo::start().unwrap();
    let (mut router, manager) =
        RouterProcess::start_as_service(setup(&echo), |folder, _| ServiceManager::start(folder)).unwrap();
    let kept_sockets = [("admin.address", 1), ("listener.tls", 2)];
    assert_eq!(kept(&manager), kept_sockets);
    let (address, served, over) = (router.address(), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let client = || {
            let mut number = 0;
            while !over.load(Ordering::SeqCst) {
                echoed(address).unwrap();
                served.fetch_add(1, Ordering::SeqCst);
                number += 1;
            }
            number
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        let _over = OnDrop(&over);
        let progress = || {
            let before = served.load(Ordering::SeqCst);
            eventually(PATIENCE, "connections are served", || {
                (served.load(Ordering::SeqCst) > before + 50).then_some(())
            })
            .unwrap();
        };
        for round in 0..3 {
            progress();
            let former = router.pids().unwrap();
            router.signal(Signal::SIGKILL).unwrap();
            router.wait_for_exit(PATIENCE).unwrap();
            if round == 0 {
                // Nobody is there, and clients wait.
                eventually(PATIENCE, "the former processes end", || gone(&former)).unwrap();
            }
            router.start_service_again(&manager).unwrap();
            progress();
            assert_eq!(kept(&manager), kept_sockets, "what is kept already is not given again");
            eventually(PATIENCE, "the former processes end", || gone(&former)).unwrap();
        }
        over.store(true, Ordering::SeqCst);
        assert!(clients.into_iter().all(|client| client.join().unwrap() > 0));
    });
    assert_eq!(manager.times_ready(), 4);
}

#[test]
fn what_is_kept_follows_reloads_restarts_and_upgrades() {
    let echo = Echo::start().unwrap();
    let (mut router, manager) =
        RouterProcess::start_as_service(setup(&echo), |folder, _| ServiceManager::start(folder)).unwrap();
    let new = free_address().unwrap();
    let path = router.config_file().to_owned();
    let before = fs::read_to_string(&path).unwrap();
    let more = before.replace("listeners:\n", &format!("listeners:\n  - {{ name: more, address: \"{new}\" }}\n"));
    let with_more = [("admin.address", 1), ("listener.more", 2), ("listener.tls", 2)];
    let without = [("admin.address", 1), ("listener.tls", 2)];
    let wait_until_kept = |router: &RouterProcess, expected: &[(&str, usize)]| {
        let found = eventually(PATIENCE, "what is kept", || (kept(&manager) == expected).then_some(()));
        let log = || router.log().lines().join("\n");
        found.unwrap_or_else(|_| panic!("{expected:?}, but {:?}\n{}", kept(&manager), log()));
    };
    fs::write(&path, &more).unwrap();
    wait_until_kept(&router, &with_more);
    eventually(PATIENCE, "the new listener serves", || echoed(new).ok()).unwrap();

    // The supervisor becomes another program, at whose start the variables are still those of its first one.
    router.signal(Signal::SIGUSR2).unwrap();
    router.log().wait_for(PATIENCE, &["goes on as another version"]).unwrap();
    eventually(PATIENCE, "it is ready again", || (manager.times_ready() >= 3).then_some(())).unwrap();
    echoed(new).unwrap();

    fs::write(&path, &before).unwrap();
    wait_until_kept(&router, &without);

    // While it is away a listener comes and goes: what was kept for it is given back.
    fs::write(&path, &more).unwrap();
    wait_until_kept(&router, &with_more);
    router.signal(Signal::SIGTERM).unwrap();
    assert!(router.wait_for_exit(PATIENCE).unwrap().success());
    wait_until_kept(&router, &with_more);
    fs::write(&path, &before).unwrap();
    router.start_service_again(&manager).unwrap();
    wait_until_kept(&router, &without);
    echoed(router.address()).unwrap();
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn setup(echo: &Echo) -> Setup {
    Setup::new().line("workers: 2").tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()))
}

fn kept(manager: &ServiceManager) -> Vec<(&'static str, usize)> {
    let name = |name: &str| ["admin.address", "listener.more", "listener.tls"].into_iter().find(|known| *known == name);
    manager.kept().into_iter().map(|(kept, count)| (name(&kept).expect("a name of ours"), count)).collect()
}

fn echoed(address: SocketAddr) -> anyhow::Result<()> {
    let client = RawClient::connect(address)?;
    let hello = Hello::named(PASSTHROUGH).records();
    client.send(&hello)?;
    anyhow::ensure!(client.read(hello.len())? == hello, "the echo is another one");
    Ok(())
}

fn gone(pids: &[Pid]) -> Option<()> {
    (!pids.iter().any(|pid| is_running(*pid))).then_some(())
}
