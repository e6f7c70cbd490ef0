//! Tenants whose terminators are started by connections, added, changed, given another `startup` and removed by reloads,
//! asleep and running. A reload wakes nobody and resets nobody, and once it is told of, everybody is served as it says.

use std::fs;
use std::io::{Read, Write};

use tests::authority::{Authority, KeyKind};
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::processes::{Pid, command_line, is_running};
use tests::raw_client::RawClient;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::{TlsClient, TlsStream};

use crate::two_tenants::TERMINATE;

#[test]
fn tenants_come_change_and_go_asleep_and_running() {
    let mut scene = Scene::start();
    let (first, second) = (scene.first.address().to_string(), scene.second.address().to_string());
    let whole = scene.text();
    let without_globex = whole.split_once("  - name: globex").unwrap().0.to_owned();

    // Asleep: one goes, the other one gets another backend. Nothing is started by that.
    scene.reload(&without_globex.replace(&first, &second));
    assert_eq!(scene.rejected(GLOBEX), 112);
    assert!(scene.terminators().is_empty());
    let mut established = scene.connect(TERMINATE);
    assert_eq!((scene.first.accepted(), scene.second.accepted()), (0, 1));
    let former = scene.router.terminator_pid("acme").unwrap();

    // One comes, and is started by its first connection; the running one gets its old backend back.
    scene.reload(&whole);
    ping(&mut established);
    let mut of_globex = scene.connect(GLOBEX);
    drop(scene.connect(TERMINATE));
    assert_eq!((scene.first.accepted(), scene.second.accepted()), (2, 1));
    ping(&mut established);
    assert!(is_running(former), "the former terminator has a connection left");
    drop(established);
    eventually(PATIENCE, "the former terminator ends", || (!is_running(former)).then_some(())).unwrap();

    // One goes that runs: its connection is what it lives for.
    let globex = scene.router.terminator_pid("globex").unwrap();
    scene.reload(&without_globex);
    assert_eq!(scene.rejected(GLOBEX), 112);
    ping(&mut of_globex);
    drop(of_globex);
    eventually(PATIENCE, "a terminator that nobody needs ends", || (!is_running(globex)).then_some(())).unwrap();
    drop(scene.connect(TERMINATE));
    assert!(scene.router.log().with(&["ended unasked"]).is_empty());
}

#[test]
fn startup_changes_asleep_and_running() {
    let mut scene = Scene::start();
    let on_demand = scene.text();
    let always = on_demand.replace("    startup: OnDemand\n", "").replace("    idleStop: 10m\n", "");
    assert_ne!(on_demand, always);

    // Asleep, and from now on it always runs: without a connection.
    scene.reload(&always);
    scene.router.wait_for_metric("sni_terminator_up", &[("tenant", "acme")], 1.0).unwrap();
    let former = scene.router.terminator_pid("acme").unwrap();
    let mut established = scene.connect(TERMINATE);

    // Running, and from now on by demand: another one takes its place at once, and stops a second after the last
    // connection.
    scene.reload(&on_demand.replace("idleStop: 10m", "idleStop: 1s"));
    ping(&mut established);
    drop(established);
    eventually(PATIENCE, "none runs", || scene.terminators().is_empty().then_some(())).unwrap();
    assert!(!is_running(former));
    let mut established = scene.connect(TERMINATE);
    let by_demand = scene.router.terminator_pid("acme").unwrap();

    // Running by demand, and from now on it always runs, whether somebody asks or not.
    scene.reload(&always);
    eventually(PATIENCE, "another one runs", || (scene.of_acme().len() == 2).then_some(())).unwrap();
    ping(&mut established);
    drop(established);
    eventually(PATIENCE, "the former one ends", || (!is_running(by_demand)).then_some(())).unwrap();
    drop(scene.connect(TERMINATE));
    assert_eq!(scene.of_acme().len(), 1);
    assert!(scene.router.log().with(&["ended unasked"]).is_empty());
}

/// Two tenants by demand with the first backend.
struct Scene {
    router: RouterProcess,
    client: TlsClient,
    reloads: u32,
    first: Echo,
    second: Echo,
}

impl Scene {
    fn start() -> Self {
        let authority = Authority::new("scenario CA").unwrap();
        let (first, second) = (Echo::start().unwrap(), Echo::start().unwrap());
        let setup = [("acme", TERMINATE), ("globex", GLOBEX)].into_iter().fold(Setup::new(), |setup, (name, host)| {
            let certificate = authority.server(&[host], KeyKind::Ecdsa).unwrap();
            let tenant = Tenant::terminate(name, &[host], first.address(), &certificate);
            setup.tenant(tenant.line("startup: OnDemand").line("idleStop: 10m"))
        });
        let router = RouterProcess::start(setup.listener_line("clientHello: { timeout: 10s }")).unwrap();
        let scene = Self { router, client: TlsClient::trusting(&authority).unwrap(), reloads: 0, first, second };
        assert!(scene.terminators().is_empty(), "nobody has asked yet");
        scene
    }

    fn text(&self) -> String {
        fs::read_to_string(self.router.config_file()).unwrap()
    }

    /// A new file in the place of the old one, and the moment when it is in force.
    fn reload(&mut self, text: &str) {
        let new = self.router.folder().join("config.edited");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.router.config_file()).unwrap();
        self.reloads += 1;
        let ok = [("outcome", "ok")];
        self.router.wait_for_metric("sni_router_config_reloads_total", &ok, f64::from(self.reloads)).unwrap();
    }

    /// A connection that the echo behind the name has answered.
    fn connect(&self, name: &str) -> TlsStream {
        let mut stream = self.client.connect(self.router.address(), name).unwrap();
        ping(&mut stream);
        stream
    }

    /// The alert that the name gets.
    fn rejected(&self, name: &str) -> u8 {
        let client = RawClient::connect(self.router.address()).unwrap();
        client.send(&Hello::named(name).records()).unwrap();
        client.answer().alert().unwrap()
    }

    fn terminators(&self) -> Vec<Pid> {
        let pids = self.router.pids().unwrap();
        pids.into_iter().filter(|pid| command_line(*pid).iter().any(|word| word == "--tenant")).collect()
    }

    fn of_acme(&self) -> Vec<Pid> {
        let all = self.terminators();
        all.into_iter().filter(|pid| command_line(*pid).iter().any(|word| word == "acme")).collect()
    }
}

fn ping(stream: &mut TlsStream) {
    stream.write_all(b"ping").unwrap();
    stream.flush().unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}

const GLOBEX: &str = "www.globex.test";
