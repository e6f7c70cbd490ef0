//! Certificates, client CAs and revocation lists that are replaced while connections come and go.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use config::Config;
use tests::authority::{Authority, Identity, KeyKind, Owner};
use tests::fakes::{Echo, PlainHttp};
use tests::patience::{PATIENCE, eventually};
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::secret_mount::SecretMount;
use tests::setup::{Setup, Tenant, secret_dir, tenant_owner};
use tests::tls_client::{TlsClient, TlsStream};

use crate::two_tenants::TERMINATE;

#[test]
fn two_hundred_rotations_under_load_fail_no_handshake_and_serve_one_of_the_last_two() {
    let scene = Scene::start();
    let certificates: Vec<Identity> = (0..=ROTATIONS).map(|_| scene.certificate()).collect();
    let mut mount = scene.mount(&certificates[0]);
    scene.wait_until_served(&certificates[0]);
    let place = |stream: &TlsStream| {
        let leaf = stream.conn.peer_certificates().unwrap()[0].clone();
        certificates.iter().position(|certificate| certificate.leaf() == leaf).unwrap()
    };

    let (rotated, done, handshakes) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let slowest = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let before = rotated.load(Ordering::SeqCst);
                    let served = place(&scene.connect());
                    let after = rotated.load(Ordering::SeqCst);
                    // `rotated` was seen by a client; the one after it may be in place already.
                    assert!((before..=after + 1).contains(&served), "{served} in {before}..={after} + 1");
                    handshakes.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _stop = StopOnDrop(&done);
        let mut slowest = Duration::ZERO;
        for (number, certificate) in certificates.iter().enumerate().skip(1) {
            mount.swap(certificate).unwrap();
            let swapped = Instant::now();
            while place(&scene.connect()) != number {
                assert!(swapped.elapsed() < PATIENCE, "certificate {number} is never served");
            }
            slowest = slowest.max(swapped.elapsed());
            rotated.store(number, Ordering::SeqCst);
        }
        slowest
    });
    assert!(slowest < Duration::from_secs(1), "a certificate was served only after {slowest:?}");
    assert!(handshakes.load(Ordering::SeqCst) >= ROTATIONS as u64, "hardly any load");
    let metrics = scene.router.metrics().unwrap();
    let failed = metrics.sum("sni_terminator_handshakes_total", &[("tenant", "acme"), ("outcome", "failed")]);
    // A client of this test that stops in the middle of a handshake would be counted too, and none does.
    assert_eq!(failed, 0.0);
    scene.assert_metric_only(&certificates[ROTATIONS]);
}

#[test]
fn established_connections_are_untouched_by_a_rotation() {
    let scene = Scene::start();
    let mut stream = scene.connect();
    echo(&mut stream, b"before");
    let next = scene.certificate();
    next.write_secret_dir(&scene.secret, scene.owner).unwrap();
    scene.wait_until_served(&next);
    echo(&mut stream, b"after");
    scene.router.log().wait_for(PATIENCE, &["certificate renewed", &next.serial().unwrap()]).unwrap();
    scene.assert_metric_only(&next);
}

#[test]
fn half_written_and_deleted_files_keep_the_last_good_certificate() {
    let scene = Scene::start();
    let next = scene.certificate();
    fs::write(scene.secret.join("tls.crt"), next.certificate_pem()).unwrap();
    let line = ["WARN", "does not belong to the certificate", "still serving the last good certificate"];
    scene.router.log().wait_for(PATIENCE, &line).unwrap();
    assert!(shows(&scene.connect(), &scene.first));
    next.write_secret_dir(&scene.secret, scene.owner).unwrap();
    scene.wait_until_served(&next);

    fs::remove_file(scene.secret.join("tls.key")).unwrap();
    fs::remove_file(scene.secret.join("tls.crt")).unwrap();
    let line = ["WARN", "secret not found: neither", "still serving the last good certificate"];
    scene.router.log().wait_for(PATIENCE, &line).unwrap();
    assert!(shows(&scene.connect(), &next));
    next.write_secret_dir(&scene.secret, scene.owner).unwrap();
    scene.router.log().wait_for(PATIENCE, &["certificate files are in order again"]).unwrap();
}

#[test]
fn a_bad_certificate_of_one_tenant_touches_no_other_tenant() {
    let scene = Scene::start();
    fs::write(scene.secret.join("tls.crt"), "no certificate").unwrap();
    let good = scene.authority.server(&[GLOBEX], KeyKind::Ecdsa).unwrap();
    let folder = secret_dir(scene.router.folder(), "globex", 0);
    good.write_secret_dir(&folder, owner(&scene.router, "globex")).unwrap();
    eventually(PATIENCE, "globex serves its new certificate", || {
        shows(&scene.client.connect(scene.router.address(), GLOBEX).unwrap(), &good).then_some(())
    })
    .unwrap();
    scene.router.log().wait_for(PATIENCE, &["tenant=\"acme\"", "cannot be used"]).unwrap();
    assert!(shows(&scene.connect(), &scene.first));
    assert!(scene.router.log().with(&["tenant=\"globex\"", "cannot be used"]).is_empty());
}

#[test]
fn an_end_that_comes_near_is_told_with_its_date_and_in_the_metrics() {
    let scene = Scene::start();
    let expiring = scene.authority.expiring_server(&[TERMINATE], Duration::from_secs(20 * DAY + DAY / 2)).unwrap();
    expiring.write_secret_dir(&scene.secret, scene.owner).unwrap();
    let serial = expiring.serial().unwrap();
    scene.router.log().wait_for(PATIENCE, &["WARN", "certificate expires soon", &serial, "days=20"]).unwrap();
    let left = scene.not_after(&expiring) - unix_now();
    assert!((19.0 * DAY as f64..21.0 * DAY as f64).contains(&left), "{left} s");
}

#[test]
fn a_certificate_that_ends_while_it_is_served_is_told_and_its_successor_taken() {
    let scene = Scene::start();
    let short = scene.authority.expiring_server(&[TERMINATE], Duration::from_secs(3)).unwrap();
    short.write_secret_dir(&scene.secret, scene.owner).unwrap();
    let serial = short.serial().unwrap();
    scene.router.log().wait_for(PATIENCE, &["WARN", "certificate expires soon", &serial, "days=0"]).unwrap();
    scene.router.log().wait_for(PATIENCE, &["ERROR", "certificate has expired", &serial]).unwrap();
    let error = scene.client.connect(scene.router.address(), TERMINATE).map(drop).unwrap_err();
    assert!(format!("{error:#}").contains("expired"), "{error:#}");
    let next = scene.certificate();
    next.write_secret_dir(&scene.secret, scene.owner).unwrap();
    eventually(PATIENCE, "the next one is served", || {
        scene.client.connect(scene.router.address(), TERMINATE).ok().filter(|stream| shows(stream, &next)).map(drop)
    })
    .unwrap();
}

#[test]
fn client_authorities_and_revocation_lists_are_replaced_without_a_restart() {
    let (servers, old, new) =
        (Authority::new("servers").unwrap(), Authority::new("clients").unwrap(), Authority::new("clients").unwrap());
    let backend = PlainHttp::start("acme").unwrap();
    let scratch = Scratch::new().unwrap();
    let ca = scratch.write("clients.crt", old.pem()).unwrap();
    let crl = scratch.write("clients.crl", &old.crl(&[]).unwrap()).unwrap();
    let validation = format!("{{ mode: Required, ca: [{}], crl: [{}] }}", ca.display(), crl.display());
    let certificate = servers.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let tenant = Tenant::terminate("acme", &[TERMINATE], backend.address(), &certificate)
        .tls_line(&format!("clientValidation: {validation}"));
    let router = RouterProcess::start_in(scratch, Setup::new().tenant(tenant)).unwrap();
    let client = TlsClient::trusting(&servers).unwrap();
    let get = |identity: &Identity| {
        let answer = client.clone().with_identity(identity).get(router.address(), TERMINATE, "/");
        answer.map(|answer| answer.status).map_err(|error| format!("{error:#}"))
    };
    let (manager, successor) = (old.client("manager").unwrap(), new.client("manager").unwrap());
    assert_eq!(get(&manager), Ok(200));
    assert!(get(&successor).unwrap_err().contains("UnknownCA"));

    replace(&crl, &old.crl(&[&manager]).unwrap());
    eventually(PATIENCE, "the revoked client is refused", || {
        get(&manager).err().filter(|error| error.contains("CertificateRevoked"))
    })
    .unwrap();

    // Both CAs have the same subject, as two generations of one authority do.
    replace(&ca, &format!("{}{}", old.pem(), new.pem()));
    replace(&crl, &format!("{}{}", old.crl(&[&manager]).unwrap(), new.crl(&[]).unwrap()));
    eventually(PATIENCE, "the new authority's client is let in", || (get(&successor) == Ok(200)).then_some(()))
        .unwrap();
    assert!(get(&manager).unwrap_err().contains("CertificateRevoked"));
    assert_eq!(get(&old.client("another").unwrap()), Ok(200));

    replace(&ca, "no certificate");
    router.log().wait_for(PATIENCE, &["WARN", "the last good ones stay in force"]).unwrap();
    assert_eq!(get(&successor), Ok(200));
    assert!(get(&manager).is_err());
}

/// Two terminated tenants; the first one's certificate is what the scenarios replace.
struct Scene {
    authority: Authority,
    first: Identity,
    router: RouterProcess,
    client: TlsClient,
    secret: PathBuf,
    owner: Option<Owner>,
    _backend: Echo,
}

impl Scene {
    fn start() -> Self {
        let authority = Authority::new("scenario CA").unwrap();
        let backend = Echo::start().unwrap();
        let first = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
        let globex = authority.server(&[GLOBEX], KeyKind::Ecdsa).unwrap();
        let setup = Setup::new()
            .tenant(Tenant::terminate("acme", &[TERMINATE], backend.address(), &first))
            .tenant(Tenant::terminate("globex", &[GLOBEX], backend.address(), &globex));
        let router = RouterProcess::start(setup).unwrap();
        let secret = secret_dir(router.folder(), "acme", 0);
        let (owner, client) = (owner(&router, "acme"), TlsClient::trusting(&authority).unwrap());
        Self { authority, first, router, client, secret, owner, _backend: backend }
    }

    fn certificate(&self) -> Identity {
        self.authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap()
    }

    fn mount(&self, identity: &Identity) -> SecretMount {
        SecretMount::new(&self.secret, self.owner, identity).unwrap()
    }

    fn connect(&self) -> TlsStream {
        self.client.connect(self.router.address(), TERMINATE).unwrap()
    }

    fn wait_until_served(&self, identity: &Identity) {
        eventually(PATIENCE, "the certificate is served", || shows(&self.connect(), identity).then_some(())).unwrap();
    }

    fn not_after(&self, identity: &Identity) -> f64 {
        let serial = identity.serial().unwrap();
        let name = self.secret.display().to_string();
        let labels = [("tenant", "acme"), ("name", name.as_str()), ("serial", serial.as_str())];
        self.router.metrics().unwrap().sum("sni_terminator_certificate_not_after_seconds", &labels)
    }

    fn assert_metric_only(&self, identity: &Identity) {
        let all = self.router.metrics().unwrap();
        let all = all.sum("sni_terminator_certificate_not_after_seconds", &[("tenant", "acme")]);
        assert_eq!(self.not_after(identity), all);
        assert!(all > unix_now());
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn owner(router: &RouterProcess, tenant: &str) -> Option<Owner> {
    let config = Config::load(router.folder().join("config.yaml")).unwrap();
    tenant_owner(&config, tenant).unwrap()
}

fn shows(stream: &TlsStream, expected: &Identity) -> bool {
    stream.conn.peer_certificates().and_then(|chain| chain.first()) == Some(&expected.leaf())
}

fn echo(stream: &mut TlsStream, word: &[u8]) {
    stream.write_all(word).unwrap();
    let mut back = vec![0; word.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, word);
}

/// A rename over the old file.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn unix_now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

const ROTATIONS: usize = 200;
const CLIENTS: usize = 2;
const DAY: u64 = 24 * 60 * 60;
const GLOBEX: &str = "www.globex.test";
