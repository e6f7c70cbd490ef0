//! A tenant whose terminator makes its own CA and certificate until somebody brings one, and the clients that check what
//! is advertised: an impersonation proxy that is reached by an address and by a name.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use config::Config;
use tests::authority::{Authority, Identity, KeyKind, Owner};
use tests::client_tools::{Tool, require, require_root};
use tests::fakes::PlainHttp;
use tests::patience::{PATIENCE, eventually};
use tests::processes;
use tests::router_process::{RouterProcess, send_signal};
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant, secret_dir, tenant_owner};
use tests::tls_client::TlsClient;

#[test]
fn clients_that_check_the_advertised_ca_follow_every_change_between_generated_and_external() {
    let scene = Scene::start();
    let (done, requests, refetched) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = scene.client();
                while !done.load(Ordering::SeqCst) {
                    if client.get(scene.router.address(), HOST, "/").is_err() {
                        // What a client does that finds its copy of the CA outdated: once, and then it must do.
                        client = scene.client();
                        client.get(scene.router.address(), HOST, "/").unwrap();
                        refetched.fetch_add(1, Ordering::SeqCst);
                    }
                    requests.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _stop = StopOnDrop(&done);
        for round in 0..CHANGES {
            let authority = Authority::new(&format!("external CA {round}")).unwrap();
            scene.bring(&authority);
            scene.wait_until_advertised(|bundle| Some(bundle) == pem_of(&authority).as_deref());
            assert_eq!(scene.generated_files(), 0, "keys of no use are kept");
            let before = requests.load(Ordering::SeqCst);
            eventually(PATIENCE, "clients go on", || (requests.load(Ordering::SeqCst) > before + 10).then_some(()))
                .unwrap();
            scene.take_away();
            scene.wait_until_advertised(|bundle| Some(bundle) != pem_of(&authority).as_deref());
            assert_eq!(scene.generated_files(), 2);
            let before = requests.load(Ordering::SeqCst);
            eventually(PATIENCE, "clients go on", || (requests.load(Ordering::SeqCst) > before + 10).then_some(()))
                .unwrap();
        }
    });
    let (changes, refetched) = (2 * CHANGES, refetched.load(Ordering::SeqCst));
    assert!((changes..=changes * CLIENTS).contains(&refetched), "{refetched} refetches of {changes} changes");
    let log = scene.router.log();
    for words in [
        ["external certificate in use", "nothing is generated"],
        ["cleaned up", "generated CA, certificate and keys are removed"],
        ["CA generated", "not_after"],
        ["generated certificate in use", HOST],
    ] {
        assert!(log.with(&words).len() >= CHANGES as usize, "{words:?}");
    }
    assert!(!log.with(&["secret not found", "neither"]).is_empty());
}

#[test]
fn a_generated_certificate_survives_a_restart_and_is_nobody_elses() {
    let scene = Scene::start();
    let before = scene.advertised().unwrap();
    let pid = scene.router.terminator_pid(TENANT).unwrap();
    send_signal(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    scene.router.wait_for_metric("sni_terminator_restarts_total", &[("tenant", TENANT)], 1.0).unwrap();
    scene.wait_until_advertised(|bundle| bundle == before);
    assert_eq!(scene.client().get(scene.router.address(), HOST, "/").unwrap().status, 200);

    let config = Config::load(scene.router.folder().join("config.yaml")).unwrap();
    let kept = config.generated_dir(TENANT);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&kept), mode(&kept.join("authority.pem"))), (0o700, 0o600));
    let told = config.advertised_dir(TENANT).join("ca.crt");
    assert_eq!((fs::read_to_string(&told).unwrap(), mode(&told)), (before.clone(), 0o644));
    assert!(!before.contains("PRIVATE"));
    if let Some(owner) = tenant_owner(&config, TENANT).unwrap() {
        assert_eq!(fs::metadata(&kept).unwrap().uid(), owner.uid);
    }
    // What the rest of the router tells: `neighbour` has a certificate of its own and advertises nothing.
    assert_eq!(scene.router.admin_get("/v1/ca/neighbour").unwrap().status, 404);
    assert_eq!(scene.router.admin_get("/v1/ca/nobody").unwrap().status, 404);
}

#[test]
fn a_client_that_knows_only_an_address_can_check_it() {
    let Some(curl) = require(Tool::Curl, "an address in a generated certificate").unwrap() else { return };
    let scene = Scene::start();
    let ca = scene.router.folder().join("run/ca").join(TENANT).join("ca.crt");
    let url = format!("https://{}/", scene.router.address());
    let output = Command::new(curl).args(["-sS", "--cacert"]).arg(&ca).arg(&url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("backend"));
}

#[test]
fn an_ordinary_user_s_router_generates_too_and_gives_way_to_an_external_one() {
    if !require_root("to start the router as another user than root").unwrap() {
        return;
    }
    let backend = PlainHttp::start("backend").unwrap();
    let setup = Setup::new().tenant(Tenant::generate(TENANT, &[HOST], backend.address()));
    let router = RouterProcess::start_copy_as(setup, ORDINARY_USER).unwrap();
    let advertised = || Some(router.admin_get(&format!("/v1/ca/{TENANT}")).ok()?).filter(|told| told.status == 200);
    let get = |bundle: &str| {
        let client = TlsClient::trusting_bundle(bundle).unwrap();
        client.get(router.address(), HOST, "/").map(|answer| answer.status)
    };
    let generated = eventually(PATIENCE, "the CA is told", advertised).unwrap().body;
    assert_eq!(get(&generated).unwrap(), 200);
    let config = Config::load(router.config_file()).unwrap();
    let kept = config.generated_dir(TENANT).join("authority.pem");
    let (owner, mode) = (fs::metadata(&kept).unwrap().uid(), fs::metadata(&kept).unwrap().permissions().mode());
    assert_eq!((owner, mode & 0o777), (ORDINARY_USER, 0o600));
    assert_eq!(processes::status(router.terminator_pid(TENANT).unwrap()).unwrap().uids().unwrap(), [ORDINARY_USER; 4]);

    let external = Authority::new("external CA").unwrap();
    let secret = secret_dir(router.folder(), TENANT, 0);
    let owner = Owner { uid: ORDINARY_USER, gid: ORDINARY_USER };
    external.server(&[HOST], KeyKind::Ecdsa).unwrap().write_secret_dir(&secret, Some(owner)).unwrap();
    eventually(PATIENCE, "the external one is served", || get(external.pem()).ok()).unwrap();
    eventually(PATIENCE, "what was generated is gone", || (!kept.exists()).then_some(())).unwrap();
    assert!(get(&generated).is_err());
}

#[test]
fn an_external_certificate_that_is_half_there_or_wrong_is_told_and_nothing_is_lost() {
    let scene = Scene::start();
    let generated = scene.advertised().unwrap();
    let authority = Authority::new("external").unwrap();
    let (one, other) = (scene.certificate(&authority), scene.certificate(&authority));
    fs::write(scene.secret.join("tls.crt"), one.certificate_pem()).unwrap();
    scene.router.log().wait_for(PATIENCE, &["WARN", "tls.key is missing: there is only"]).unwrap();
    other.write_files_into(&scene.secret.join("other"));
    fs::rename(scene.secret.join("other/tls.key"), scene.secret.join("tls.key")).unwrap();
    if let Some(owner) = scene.owner() {
        std::os::unix::fs::chown(scene.secret.join("tls.key"), Some(owner.uid), Some(owner.gid)).unwrap();
    }
    let told = ["WARN", "does not belong to the certificate", "still serving the last good certificate"];
    scene.router.log().wait_for(PATIENCE, &told).unwrap();
    assert_eq!(scene.advertised().unwrap(), generated);
    assert_eq!(scene.client().get(scene.router.address(), HOST, "/").unwrap().status, 200);
}

/// One tenant with `generate: true` beside an empty secret, reached by a name and by the listener's address.
struct Scene {
    router: RouterProcess,
    secret: PathBuf,
    _backend: PlainHttp,
}

impl Scene {
    fn start() -> Self {
        let backend = PlainHttp::start("backend").unwrap();
        let neighbour = Authority::new("neighbour").unwrap().server(&["www.neighbour.test"], KeyKind::Ecdsa).unwrap();
        let address = IpAddr::from([127, 0, 0, 1]);
        let setup = Setup::new()
            .listener_line(&format!("onNoServerName: {TENANT}"))
            .tenant(
                Tenant::generate(TENANT, &[HOST], backend.address())
                    .tls_line(&format!("externalEndpoints: [\"{address}\"]")),
            )
            .tenant(Tenant::terminate("neighbour", &["www.neighbour.test"], backend.address(), &neighbour));
        let router = RouterProcess::start_in(Scratch::new().unwrap(), setup).unwrap();
        let secret = secret_dir(router.folder(), TENANT, 0);
        Self { router, secret, _backend: backend }
    }

    fn owner(&self) -> Option<Owner> {
        tenant_owner(&Config::load(self.router.folder().join("config.yaml")).unwrap(), TENANT).unwrap()
    }

    fn advertised(&self) -> Option<String> {
        let answer = self.router.admin_get(&format!("/v1/ca/{TENANT}")).ok()?;
        (answer.status == 200).then_some(answer.body)
    }

    fn wait_until_advertised(&self, is_right: impl Fn(&str) -> bool) {
        eventually(PATIENCE, "the CA is advertised", || self.advertised().filter(|bundle| is_right(bundle)).map(drop))
            .unwrap();
    }

    /// Trusts what is advertised now.
    fn client(&self) -> TlsClient {
        let bundle = eventually(PATIENCE, "a CA is advertised", || self.advertised()).unwrap();
        TlsClient::trusting_bundle(&bundle).unwrap()
    }

    fn certificate(&self, authority: &Authority) -> Identity {
        authority.server(&[HOST], KeyKind::Ecdsa).unwrap()
    }

    fn bring(&self, authority: &Authority) {
        fs::write(self.secret.join("ca.crt"), authority.pem()).unwrap();
        self.certificate(authority).write_secret_dir(&self.secret, self.owner()).unwrap();
    }

    fn take_away(&self) {
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            fs::remove_file(self.secret.join(file)).unwrap();
        }
    }

    fn generated_files(&self) -> usize {
        let config = Config::load(self.router.folder().join("config.yaml")).unwrap();
        fs::read_dir(config.generated_dir(TENANT)).unwrap().count()
    }
}

trait WriteFiles {
    fn write_files_into(&self, folder: &Path);
}

impl WriteFiles for Identity {
    fn write_files_into(&self, folder: &Path) {
        self.write_secret_dir(folder, None).unwrap();
    }
}

/// A CA as the router tells it: only its certificate, however the file was written.
fn pem_of(authority: &Authority) -> Option<String> {
    let lines: Vec<&str> = authority.pem().lines().map(str::trim).collect();
    Some(lines.join("\n") + "\n")
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

const TENANT: &str = "concierge";
const HOST: &str = "k8s.corp.test";
/// Neither root nor one that a tenant could have.
const ORDINARY_USER: u32 = 65_534;
const CLIENTS: u64 = 2;
const CHANGES: u64 = 4;
