//! Terminators that a connection starts and idleness stops.

use std::io::{Read, Write};
use std::thread;

use nix::sys::signal::Signal;
use tests::authority::{Authority, KeyKind};
use tests::fakes::{Echo, PlainHttp};
use tests::patience::{PATIENCE, eventually};
use tests::processes;
use tests::router_process::{RouterProcess, send_signal};
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::TERMINATE;

#[test]
fn the_first_connection_starts_it_and_idleness_stops_it_again_and_again() {
    let scene = Scene::start("1s");
    assert_eq!(scene.terminators(), 0, "nobody has asked yet");
    for round in 1..=3 {
        assert_eq!(scene.client.get(scene.router.address(), TERMINATE, "/").unwrap().status, 200);
        assert_eq!(scene.terminators(), 1);
        eventually(PATIENCE, "it stops", || (scene.terminators() == 0).then_some(())).unwrap();
        eventually(PATIENCE, "the log says so", || {
            (scene.router.log().with(&["stopped until a connection asks for it"]).len() == round).then_some(())
        })
        .unwrap();
    }
    let metrics = scene.router.metrics().unwrap();
    let unavailable = [("tenant", "acme"), ("outcome", "terminator_unavailable")];
    assert_eq!(metrics.sum("sni_router_connections_total", &unavailable), 0.0);
    assert!(!metrics.has("sni_terminator_up", &[("tenant", "acme")]), "an alert would go off");
    assert!(scene.router.log().with(&["ended unasked"]).is_empty());
    let status = scene.router.admin_get("/v1/tenants").unwrap().json().unwrap();
    assert_eq!(status["tenants"][0]["terminator"]["state"], "stopped");
}

#[test]
fn many_first_connections_at_once_start_one_and_all_are_served() {
    let scene = Scene::start("10m");
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                assert_eq!(scene.client.get(scene.router.address(), TERMINATE, "/").unwrap().status, 200);
            });
        }
    });
    assert_eq!(scene.terminators(), 1);
    assert_eq!(scene.router.log().with(&["started", "terminator/acme"]).len(), 1);
    assert_eq!(scene.router.metrics().unwrap().sum("sni_terminator_up", &[("tenant", "acme")]), 1.0);
}

#[test]
fn it_reads_no_more_of_the_configuration_than_it_needs() {
    let backend = PlainHttp::start("acme").unwrap();
    let authority = Authority::new("scenario CA").unwrap();
    let tenants = [("wide", "*.wide.test"), ("inside", "www.wide.test"), ("globex", TERMINATE), ("other", "o.test")];
    let setup = tenants.into_iter().fold(Setup::new(), |setup, (name, host)| {
        let certificate = authority.server(&[host], KeyKind::Ecdsa).unwrap();
        setup.tenant(Tenant::terminate(name, &[host], backend.address(), &certificate).line("startup: OnDemand"))
    });
    let router = RouterProcess::start_with_debug_log(setup).unwrap();
    let client = TlsClient::trusting(&authority).unwrap();
    for (name, host, tenants) in [("globex", TERMINATE, 1), ("wide", "api.wide.test", 2)] {
        assert_eq!(client.get(router.address(), host, "/").unwrap().status, 200);
        let (name, tenants) = (format!("tenant=\"{name}\""), format!("tenants={tenants}"));
        router.log().wait_for(PATIENCE, &["configuration read", &name, &tenants]).unwrap();
    }
}

/// What `cargo xtask bench --terminators` measures of the released program, with bounds for this one: time of the processor,
/// not of a clock, and memory of its own, so that a busy machine and the size of the program make no difference.
#[test]
fn a_start_costs_little_however_many_tenants_there_are() {
    let backend = PlainHttp::start("acme").unwrap();
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let acme = Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate).line("startup: OnDemand");
    let setup = (0..2000).fold(Setup::new().tenant(acme), |setup, number| {
        let (name, host) = (format!("t{number}"), format!("t{number}.test"));
        setup.tenant(Tenant::passthrough(&name, &[&host], backend.address()))
    });
    let router = RouterProcess::start(setup).unwrap();
    let client = TlsClient::trusting(&authority).unwrap();
    assert_eq!(client.get(router.address(), TERMINATE, "/").unwrap().status, 200);
    let pid = router.terminator_pid("acme").unwrap();
    let cpu = processes::cpu_time(pid).unwrap();
    assert!(cpu <= std::time::Duration::from_millis(60), "{cpu:?}");
    let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let anonymous = memory.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).unwrap();
    let kibibytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kibibytes < 4096, "{kibibytes} KiB");
}

#[test]
fn a_connection_keeps_it_running_and_what_comes_meanwhile_too() {
    let backend = Echo::start().unwrap();
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let tenant = Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate)
        .line("startup: OnDemand")
        .line("idleStop: 500ms");
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    let client = TlsClient::trusting(&authority).unwrap();
    let mut held = client.connect(router.address(), TERMINATE).unwrap();
    let first = router.terminator_pid("acme").unwrap();
    let began = std::time::Instant::now();
    // Three times as long as it may be idle, measured by traffic, not by waiting for something that must not happen.
    while began.elapsed() < std::time::Duration::from_millis(1500) {
        held.write_all(b"x").unwrap();
        held.read_exact(&mut [0]).unwrap();
        thread::yield_now();
    }
    assert_eq!(router.terminator_pid("acme").unwrap(), first);
    drop(held);
    eventually(PATIENCE, "it stops", || (!processes::is_running(first)).then_some(())).unwrap();
    let mut again = client.connect(router.address(), TERMINATE).unwrap();
    again.write_all(b"y").unwrap();
    again.read_exact(&mut [0]).unwrap();
    assert_ne!(router.terminator_pid("acme").unwrap(), first);
}

#[test]
fn one_that_crashes_comes_back_for_the_next_connection_and_one_that_cannot_start_costs_its_clients_an_alert() {
    let scene = Scene::start("10m");
    assert_eq!(scene.client.get(scene.router.address(), TERMINATE, "/").unwrap().status, 200);
    let first = scene.router.terminator_pid("acme").unwrap();
    send_signal(first, Signal::SIGKILL).unwrap();
    eventually(PATIENCE, "another one serves", || scene.client.get(scene.router.address(), TERMINATE, "/").ok())
        .unwrap();
    let second = scene.router.terminator_pid("acme").unwrap();

    let secret = tests::setup::secret_dir(scene.router.folder(), "acme", 0);
    std::fs::remove_file(secret.join("tls.key")).unwrap();
    send_signal(second, Signal::SIGKILL).unwrap();
    eventually(PATIENCE, "it is gone", || (!processes::is_running(second)).then_some(())).unwrap();
    // A killed process may take a last connection with it, which is reset.
    eventually(PATIENCE, "an alert", || {
        let error = scene.client.get(scene.router.address(), TERMINATE, "/").unwrap_err();
        format!("{error:#}").contains("InternalError").then_some(())
    })
    .unwrap();
    scene.router.log().wait_for(PATIENCE, &["tls.key is missing"]).unwrap();
}

struct Scene {
    router: RouterProcess,
    client: TlsClient,
    _backend: PlainHttp,
}

impl Scene {
    fn start(idle_stop: &str) -> Self {
        let backend = PlainHttp::start("acme").unwrap();
        let authority = Authority::new("scenario CA").unwrap();
        let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
        let tenant = Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate)
            .line("startup: OnDemand")
            .line(&format!("idleStop: {idle_stop}"));
        let setup = Setup::new().listener_line("clientHello: { timeout: 10s }").tenant(tenant);
        let router = RouterProcess::start(setup).unwrap();
        Self { router, client: TlsClient::trusting(&authority).unwrap(), _backend: backend }
    }

    fn terminators(&self) -> usize {
        let descendants = processes::descendants(self.router.supervisor_pid().unwrap());
        descendants.iter().filter(|pid| processes::command_line(**pid).iter().any(|word| word == "--tenant")).count()
    }
}
