//! `sni-router check`: each tenant's TLS policy, and what is wrong with its certificates; each with a command that is run
//! here, and that shows the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tests::authority::{Authority, Identity, KeyKind};
use tests::binaries::sni_router;
use tests::client_tools::{Tool, require};
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant, backend_client_dir, secret_dir};

/// Names of tenants, what is said of them, and what the command beside it shows.
const FINDINGS: [(&str, &str, &str); 16] = [
    ("mismatch", "problem: … this key does not belong to the certificate in", "BEGIN PUBLIC KEY"),
    ("elsewhere", "problem: certificate does not cover elsewhere.test", "DNS:other.test"),
    ("order", "warning: … certificate 2 of the file did not issue certificate 1", "CN = stranger"),
    ("broken", "problem: … the chain of the file is broken", "CN = scenario CA"),
    ("expired", "problem: … certificate expired at", "notAfter="),
    ("soon", "warning: … certificate expires at", "notAfter="),
    ("chain", "warning: … an issuer in the file (CN=chain CA) expires at", "CN=chain CA"),
    ("trusting", "warning: … CA certificate 1 (CN=ending CA) expires at", "CN=ending CA"),
    ("clock", "problem: … unless this host's clock is wrong", "notBefore="),
    ("weak", "problem: … its RSA key has 1024 bits", "1024 bit"),
    ("sha1", "problem: … is signed with SHA-1", "sha1WithRSAEncryption"),
    ("wide", "warning: … covers good.test of tenant good too", "DNS:good.test"),
    ("clients", "problem: … every client of this CA is refused", "nextUpdate="),
    ("clients", "problem: … no revocation list of CN=stranger", "issuer="),
    ("backend", "problem: … does not allow TLS clients", "TLS Web Server Authentication"),
    ("garbage", "problem: … no certificate in it", ""),
];

#[test]
fn every_finding_comes_with_a_command_that_shows_the_same() {
    let Some(openssl) = require(Tool::OpenSsl, "sni-router check").unwrap() else { return };
    let scene = Scene::new();
    let (authority, stranger) = (&scene.authority, Authority::new("stranger").unwrap());
    let namesake = Authority::new("scenario CA").unwrap();
    let certificate = |names: &[&str]| authority.server(names, KeyKind::Ecdsa).unwrap();
    let leaf_of = |identity: &Identity| {
        let end = "-----END CERTIFICATE-----\n";
        let pem = identity.certificate_pem();
        pem[..pem.find(end).unwrap() + end.len()].to_owned()
    };
    let ten_days = Duration::from_secs(864_000);
    let ca = scene.scratch.write("clients.crt", &format!("{}{}", authority.pem(), stranger.pem())).unwrap();
    let crl = scene.scratch.write("clients.crl", &authority.outdated_crl().unwrap()).unwrap();
    let tenant = |name: &str, identity: &Identity| {
        // Nothing is started, so nobody listens there.
        Tenant::terminate(name, &[&format!("{name}.test")], ([127, 0, 0, 1], 9).into(), identity)
    };
    let clients = tenant("clients", &certificate(&["clients.test"])).tls_line(&format!(
        "clientValidation: {{ mode: Required, ca: [{}], crl: [{}] }}",
        ca.display(),
        crl.display()
    ));
    let backend = tenant("backend", &certificate(&["backend.test"]))
        .backend_tls(&format!("ca: [{}]", ca.display()), Some(&certificate(&["no.client.test"])));
    let chain = authority.intermediate("chain CA", ten_days).unwrap().server(&["chain.test"], KeyKind::Ecdsa).unwrap();
    let ending = scene.scratch.write("ending.crt", Authority::ending("ending CA", ten_days).unwrap().pem()).unwrap();
    let trusting = tenant("trusting", &certificate(&["trusting.test"]))
        .tls_line(&format!("clientValidation: {{ mode: Required, ca: [{}] }}", ending.display()));
    let setup = ["mismatch", "order", "broken", "weak", "sha1", "garbage"]
        .iter()
        .fold(Setup::new(), |setup, name| setup.tenant(tenant(name, &certificate(&[&format!("{name}.test")]))))
        .tenant(tenant("good", &certificate(&["good.test"])))
        .tenant(tenant("wide", &certificate(&["wide.test", "good.test"])))
        .tenant(tenant("elsewhere", &certificate(&["other.test"])))
        .tenant(tenant("expired", &authority.expired_server(&["expired.test"]).unwrap()))
        .tenant(tenant("soon", &authority.expiring_server(&["soon.test"], ten_days).unwrap()))
        .tenant(tenant("clock", &authority.future_server(&["clock.test"]).unwrap()))
        .tenant(tenant("chain", &chain))
        .tenant(trusting)
        .tenant(clients)
        .tenant(backend);
    let config = setup.write(&scene.scratch).unwrap().path;

    scene.overwrite("mismatch", "tls.crt", certificate(&["mismatch.test"]).certificate_pem());
    let order = certificate(&["order.test"]);
    scene.overwrite("order", "tls.crt", &(leaf_of(&order) + stranger.pem()));
    scene.overwrite("order", "tls.key", order.key_pem());
    let broken = certificate(&["broken.test"]);
    scene.overwrite("broken", "tls.crt", &(leaf_of(&broken) + namesake.pem()));
    scene.overwrite("broken", "tls.key", broken.key_pem());
    scene.overwrite("garbage", "tls.crt", "nothing\n");
    scene.self_made(&openssl, "weak", &["-newkey", "rsa:1024"], &[]);
    scene.self_made(&openssl, "sha1", &["-newkey", "rsa:2048"], &["-sha1"]);

    let output = check(&config, false);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for (name, expected, shown) in FINDINGS {
        let of_tenant = of(&text, name);
        let parts: Vec<&str> = expected.split(" … ").collect();
        let mut lines = of_tenant.lines();
        let found = lines.find(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found.is_some(), "no {expected:?} in\n{of_tenant}");
        let command = lines.next().and_then(|line| line.trim().strip_prefix("see: ")).unwrap_or_default();
        let ran = Command::new("sh").args(["-c", command]).output().unwrap();
        let printed = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        assert!(command.contains("openssl ") && printed.contains(shown), "{name}: {command}:\n{printed}");
    }
    assert!(!of(&text, "good").contains("problem: ") && !of(&text, "good").contains("warning: "), "{text}");
}

#[test]
fn the_policy_is_told_line_by_line_and_as_json() {
    let scene = Scene::new();
    let certificate = |name: &str| scene.authority.server(&[name], KeyKind::Rsa).unwrap();
    let ca = scene.scratch.write("ca.crt", scene.authority.pem()).unwrap();
    let nobody = ([127, 0, 0, 1], 9).into();
    let strict = Tenant::terminate("strict", &["strict.test"], nobody, &certificate("strict.test"))
        .tls_line("minVersion: \"1.3\"")
        .tls_line("alpn: [h2]")
        .tls_line(&format!("clientValidation: {{ mode: Required, ca: [{}] }}", ca.display()))
        .backend_tls(
            &format!("serverName: svc.test, ca: [{}], passAlpn: true", ca.display()),
            Some(&scene.authority.client("edge").unwrap()),
        );
    let setup = Setup::new()
        .tenant(Tenant::terminate("plain", &["plain.test"], nobody, &certificate("plain.test")))
        .tenant(strict);
    let config = setup.write(&scene.scratch).unwrap().path;
    let output = check(&config, false);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let has = |tenant: &str, item: &str, value: &str| {
        let of_tenant = of(&text, tenant);
        let line = of_tenant.lines().find(|line| line.trim_start().starts_with(item));
        assert!(line.is_some_and(|line| line.contains(value)), "{tenant}: no {item}: {value} in\n{of_tenant}");
    };
    for tenant in ["plain", "strict"] {
        for old in ["SSLv2 ", "SSLv3 ", "TLS 1 ", "TLS 1.1 "] {
            has(tenant, old, "not offered (OK)");
        }
        has(tenant, "TLS 1.3 ", "offered (OK)");
        has(tenant, "TLS 1.3 ciphers", "TLS_AES_256_GCM_SHA384");
        has(tenant, "Key exchange", " X25519MLKEM768 X25519 ");
        has(tenant, "Early data", "not offered (OK)");
        has(tenant, "Certificate ", "RSA 2048 bits, signed with ecdsa-with-SHA256; until ");
    }
    has("plain", "TLS 1.2 ", "offered (OK)");
    has("plain", "TLS 1.2 ciphers", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    has("plain", "ALPN", "not offered");
    has("plain", "Session resumption", "tickets");
    has("plain", "Client certificates", "not asked for");
    has("plain", "TLS to backends", "none: plaintext");
    has("strict", "TLS 1.2 ", "not offered");
    has("strict", "ALPN", "h2");
    has("strict", "Session resumption", "none: clients show their certificates each time");
    has("strict", "Client certificates", "required; 1 CA files");
    has("strict", "TLS to backends", "for svc.test; 1 CA files, 0 pins; with a client certificate; ALPN passed on");

    let output = check(&config, true);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &document["ok"]), (Some(0), &Value::Bool(true)));
    let strict = &document["tenants"][1];
    assert_eq!((&strict["tenant"], &strict["ok"]), (&"strict".into(), &true.into()));
    let line = strict["policy"].as_array().unwrap().iter().find(|line| line["item"] == "ALPN").unwrap();
    assert_eq!(line["value"], "h2");

    // What cannot be read is a problem of that tenant alone, and its policy is told all the same.
    fs::remove_file(backend_client_dir(scene.scratch.path(), "strict").join("tls.key")).unwrap();
    let output = check(&config, true);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &document["tenants"][0]["ok"]), (Some(1), &true.into()));
    let finding = &document["tenants"][1]["findings"][0];
    assert_eq!(finding["severity"], "problem");
    assert!(finding["message"].as_str().unwrap().contains("tls.key"), "{finding}");
}

struct Scene {
    scratch: Scratch,
    authority: Authority,
}

impl Scene {
    fn new() -> Self {
        Self { scratch: Scratch::new().unwrap(), authority: Authority::new("scenario CA").unwrap() }
    }

    /// Another content for a file of a tenant's secret, whose owner stays.
    fn overwrite(&self, tenant: &str, file: &str, content: &str) {
        fs::write(secret_dir(self.scratch.path(), tenant, 0).join(file), content).unwrap();
    }

    /// A pair that rcgen would not make: openssl signs a leaf with a CA of its own.
    fn self_made(&self, openssl: &Path, tenant: &str, key: &[&str], signature: &[&str]) {
        let folder = self.scratch.join(&format!("made-{tenant}"));
        fs::create_dir(&folder).unwrap();
        let run = |arguments: &[&str]| {
            let done = Command::new(openssl).args(arguments).current_dir(&folder).output().unwrap();
            assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        };
        let subject = format!("/CN={tenant}.test");
        let names = format!("subjectAltName=DNS:{tenant}.test");
        run(&[
            "req",
            "-x509",
            "-nodes",
            "-newkey",
            "rsa:2048",
            "-subj",
            "/CN=openssl",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
        ]);
        run(&[
            &["req", "-nodes", "-subj", &subject, "-addext", &names, "-keyout", "leaf.key", "-out", "leaf.csr"],
            key,
        ]
        .concat());
        let sign = ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
        run(&[&sign[..], &["-days", "90", "-copy_extensions", "copy", "-out", "leaf.crt"], signature].concat());
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        self.overwrite(tenant, "tls.crt", &read("leaf.crt"));
        self.overwrite(tenant, "tls.key", &read("leaf.key"));
    }
}

fn of(text: &str, tenant: &str) -> String {
    let begin = text.find(&format!("tenant {tenant}:\n")).unwrap_or_else(|| panic!("{tenant} in {text}"));
    let rest = &text[begin + 7..];
    rest[..rest.find("\ntenant ").unwrap_or(rest.len())].to_owned()
}

fn check(config: &PathBuf, as_json: bool) -> Output {
    let mut command = Command::new(sni_router().unwrap());
    command.args(["check", "--config"]).arg(config).args(as_json.then_some("--json"));
    command.env("NO_COLOR", "1").output().unwrap()
}
