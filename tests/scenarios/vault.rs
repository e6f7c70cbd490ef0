//! What somebody who has taken a terminator over can do, and what others can see of its keys.
//!
//! The attacker is a process that the terminator's own start-up code has confined, with the tenant's keys in memory: the
//! hidden command `attempt` of debug builds, which tries things instead of serving. Each attempt is made without the
//! confinement too, as root, where it must succeed: otherwise its denial would prove nothing.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;

use tests::authority::{Authority, Identity, KeyKind};
use tests::binaries;
use tests::client_tools::require_root;
use tests::fakes::IdentityBackend;
use tests::memory;
use tests::patience::{PATIENCE, eventually};
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant, backend_client_dir, secret_dir};
use tests::tls_client::TlsClient;

use crate::two_tenants::TERMINATE;

#[test]
fn a_terminator_that_is_taken_over_reaches_nothing_but_its_own_files_and_backends() {
    if !cfg!(debug_assertions) || !require_root("attempts from inside a terminator").unwrap() {
        return;
    }
    let scene = Scene::start();
    let folder = scene.router.folder();
    let pid = |tenant| scene.router.terminator_pid(tenant).unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let denied = [
        format!("read={}", secret_dir(folder, "globex", 0).join("tls.key").display()),
        format!("read={}", backend_client_dir(folder, "globex").join("tls.key").display()),
        format!("read={}", folder.join("config.yaml").display()),
        "read=/etc/passwd".to_owned(),
        "read=/proc/1/status".to_owned(),
        "list=/".to_owned(),
        format!("write={}", folder.join("elsewhere").display()),
        format!("write={}", secret_dir(folder, "acme", 0).join("tls.crt").display()),
        format!("memory={}", scene.router.router_pid().unwrap()),
        format!("memory={}", pid("globex")),
        // The same uid: that it is not dumpable is what protects it.
        format!("memory={}", pid("acme")),
        format!("trace={}", scene.router.router_pid().unwrap()),
        format!("trace={}", pid("globex")),
        format!("trace={}", pid("acme")),
        format!("signal={}", pid("globex")),
        format!("signal={}", pid("acme")),
        "execute=/bin/true".to_owned(),
        "raw-socket".to_owned(),
        "datagram-socket".to_owned(),
        "listen=127.0.0.1:0".to_owned(),
        format!("connect={}", elsewhere.local_addr().unwrap()),
        format!("connect={}", scene.router.admin()),
        format!("hand-off={}", folder.join("run/terminators/globex/handoff.sock").display()),
        format!("hand-off={}", folder.join("run/terminators/acme/handoff.sock").display()),
        "become-root".to_owned(),
        "namespace".to_owned(),
        "dump".to_owned(),
        // Last: a process with threads can make no user namespace (unshare(2)), confined or not.
        "thread".to_owned(),
    ];
    let allowed = [
        format!("read={}", secret_dir(folder, "acme", 0).join("tls.key").display()),
        format!("read={}", backend_client_dir(folder, "acme").join("tls.key").display()),
        format!("connect={}", scene.backend.address()),
    ];
    let unconfined = attempt(&[], &denied);
    let confined = scene.attempt_as("acme", &[&denied[..], &allowed[..]].concat());
    for attempt in &denied {
        assert_eq!(unconfined[attempt], "possible", "{attempt} proves nothing");
        assert!(confined[attempt].starts_with("denied: "), "{attempt}: {}", confined[attempt]);
    }
    for attempt in &allowed {
        assert_eq!(confined[attempt], "possible", "{attempt}");
    }
    assert_eq!(scene.get(TERMINATE), 200, "all this has disturbed nobody");
}

#[test]
fn a_tenants_key_is_in_the_memory_of_its_own_terminator_alone() {
    if !require_root("the memory of other processes").unwrap() {
        return;
    }
    let scene = Scene::start();
    for name in [TERMINATE, GLOBEX] {
        assert_eq!(scene.get(name), 200);
    }
    let all = scene.router.pids().unwrap();
    assert_eq!(all.len(), 4, "supervisor, router, two terminators");
    let [acme_edge, globex_edge] = &scene.edges;
    for (tenant, identity) in
        [("acme", &scene.acme), ("globex", &scene.globex), ("acme", acme_edge), ("globex", globex_edge)]
    {
        let own = scene.router.terminator_pid(tenant).unwrap();
        let forms = key_forms(identity);
        for pid in &all {
            let found = forms.iter().any(|form| memory::holds(*pid, form).unwrap());
            assert_eq!(found, *pid == own, "the key of {tenant} in process {pid}");
        }
    }
}

#[test]
fn a_key_that_was_replaced_is_in_no_memory_any_more() {
    if !require_root("looking into other processes' memory").unwrap() {
        return;
    }
    let scene = Scene::start();
    let pid = scene.router.terminator_pid("acme").unwrap();
    let places = |identity: &Identity| key_forms(identity).map(|form| memory::mappings_with(pid, &form).unwrap());
    let is_held = |identity: &Identity| places(identity).iter().any(|places| !places.is_empty());
    assert_eq!(scene.get(TERMINATE), 200);
    assert!(is_held(&scene.acme), "a key that is in use is somewhere");
    let config = config::Config::load(scene.router.folder().join("config.yaml")).unwrap();
    let owner = tests::setup::tenant_owner(&config, "acme").unwrap();
    let next = scene.authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    next.write_secret_dir(&secret_dir(scene.router.folder(), "acme", 0), owner).unwrap();
    let serial = next.serial().unwrap();
    scene.router.log().wait_for(PATIENCE, &["certificate renewed", &serial]).unwrap();
    assert_eq!(scene.get(TERMINATE), 200);
    let gone = eventually(PATIENCE, "the old key is gone", || (!is_held(&scene.acme)).then_some(()));
    gone.unwrap_or_else(|error| panic!("{error}: {:#?}; the new one: {:#?}", places(&scene.acme), places(&next)));
    assert!(is_held(&next));
}

/// Two terminated tenants with a backend that wants a certificate of them.
struct Scene {
    authority: Authority,
    acme: Identity,
    globex: Identity,
    /// What each shows to the backend.
    edges: [Identity; 2],
    router: RouterProcess,
    backend: IdentityBackend,
}

impl Scene {
    fn start() -> Self {
        let authority = Authority::new("scenario CA").unwrap();
        let scratch = Scratch::new().unwrap();
        // A terminator may read the whole folder of each file that it is given.
        std::fs::create_dir(scratch.join("trust")).unwrap();
        let ca = scratch.write("trust/ca.crt", authority.pem()).unwrap();
        let upstream = authority.server(&["upstream.test"], KeyKind::Ecdsa).unwrap();
        let backend = IdentityBackend::start("backend", &upstream, &authority).unwrap();
        let acme = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
        let globex = authority.server(&[GLOBEX], KeyKind::Ecdsa).unwrap();
        let edges = ["acme", "globex"].map(|name| authority.client(name).unwrap());
        let verified = format!("serverName: upstream.test, ca: [{}]", ca.display());
        let tenant = |name, hostname: &str, certificate: &Identity, edge: &Identity| {
            Tenant::terminate(name, &[hostname], backend.address(), certificate).backend_tls(&verified, Some(edge))
        };
        let setup = Setup::new()
            .tenant(tenant("acme", TERMINATE, &acme, &edges[0]))
            .tenant(tenant("globex", GLOBEX, &globex, &edges[1]));
        let router = RouterProcess::start_in(scratch, setup).unwrap();
        Self { authority, acme, globex, edges, router, backend }
    }

    fn get(&self, name: &str) -> u16 {
        TlsClient::trusting(&self.authority).unwrap().get(self.router.address(), name, "/").unwrap().status
    }

    fn attempt_as(&self, tenant: &str, attempts: &[String]) -> BTreeMap<String, String> {
        let config = self.router.folder().join("config.yaml");
        let socket = self.router.folder().join("run/terminators").join(tenant).join("attempt.sock");
        let confined = [
            "--config".to_owned(),
            config.display().to_string(),
            "--tenant".to_owned(),
            tenant.to_owned(),
            "--socket".to_owned(),
            socket.display().to_string(),
        ];
        attempt(&confined, attempts)
    }
}

/// Each attempt with its answer.
fn attempt(options: &[String], attempts: &[String]) -> BTreeMap<String, String> {
    let program = binaries::sni_router().unwrap().with_file_name("sni-terminator");
    let output = Command::new(program).arg("attempt").args(options).args(attempts).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let answers: BTreeMap<_, _> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(attempt, answer)| (attempt.to_owned(), answer.to_owned()))
        .collect();
    assert_eq!(answers.len(), attempts.len(), "{answers:?}\n{errors}");
    answers
}

/// The private number of a P-256 key as files have it and as a little-endian machine computes with it, and a piece of
/// the PEM file.
fn key_forms(identity: &Identity) -> [Vec<u8>; 3] {
    let key = identity.key().unwrap();
    let der = key.secret_der();
    // RFC 5915: ECPrivateKey begins with version 1 and an octet string of 32 bytes.
    let begin = der.windows(5).position(|bytes| bytes == [2, 1, 1, 4, 32]).unwrap() + 5;
    let number = der[begin..begin + 32].to_vec();
    let pem = identity.key_pem().lines().nth(1).unwrap().as_bytes()[40..].to_vec();
    [number.clone(), number.into_iter().rev().collect(), pem]
}

const GLOBEX: &str = "www.globex.test";
