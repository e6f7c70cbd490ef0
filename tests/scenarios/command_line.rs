//! What the commands answer, and with which exit code: 0 ok, 1 the input is wrong, 2 the system refused.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tests::authority::{Authority, Identity, KeyKind, Owner};
use tests::binaries::sni_router;
use tests::fakes::Echo;
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant, secret_dir, tenant_owner};

use crate::two_tenants::PASSTHROUGH;

#[test]
fn a_configuration_that_is_wrong_ends_it_with_1_and_the_place() {
    let scratch = Scratch::new().unwrap();
    let file = scratch.write("config.yaml", "runtimeDir: /tmp/x\nlistners: []\n").unwrap();
    let output = sni_router_with(&["run", "--config"], &file);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("config.yaml:2:1") && complaint.contains("listeners"), "{complaint}");
}

#[test]
fn a_file_that_is_missing_ends_it_with_1() {
    let output = sni_router_with(&["run", "--config"], Path::new("/nowhere/config.yaml"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/config.yaml"));
}

#[test]
fn a_port_in_use_ends_it_with_2_and_the_port() {
    let echo = Echo::start().unwrap();
    let scratch = Scratch::new().unwrap();
    let written = passthrough(&echo).write(&scratch).unwrap();
    let taken = written.listeners[0].1;
    let _holder = TcpListener::bind(taken).unwrap();
    let mut router = RouterProcess::launch(scratch, written, "info").unwrap();
    let status = router.wait_for_exit(tests::patience::PATIENCE).unwrap();
    assert_eq!(status.code(), Some(2));
    assert_eq!(router.log().with(&[&taken.to_string(), "in use"]).len(), 1, "{:?}", router.log().lines());
}

#[test]
fn check_and_route_answer_without_starting_anything() {
    let echo = Echo::start().unwrap();
    let scratch = Scratch::new().unwrap();
    let written = passthrough(&echo).write(&scratch).unwrap();
    assert_eq!(sni_router_with(&["check", "--config"], &written.path).status.code(), Some(0));
    let found = sni_router_with(&["route", PASSTHROUGH, "--config"], &written.path);
    assert_eq!(found.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&found.stdout).contains("pinniped"));
    assert!(!scratch.join("run").exists());
}

#[test]
fn check_finds_what_is_wrong_with_certificates_and_says_how_to_see_it() {
    let echo = Echo::start().unwrap();
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = |names: &[&str]| authority.server(names, KeyKind::Ecdsa).unwrap();
    let tenant = |name: &'static str, hostname: &str, certificate: &Identity| {
        Tenant::terminate(name, &[hostname], echo.address(), certificate)
    };
    let scratch = Scratch::new().unwrap();
    let (good, wide) = (certificate(&["a.test"]), certificate(&["*.b.test", "a.test"]));
    let setup = Setup::new()
        .tenant(tenant("good", "a.test", &good))
        .tenant(tenant("wide", "x.b.test", &wide))
        .tenant(tenant("mismatch", "c.test", &certificate(&["c.test"])))
        .tenant(tenant("elsewhere", "d.test", &certificate(&["other.test"])))
        .tenant(tenant(
            "soon",
            "e.test",
            &authority.expiring_server(&["e.test"], Duration::from_secs(864_000)).unwrap(),
        ));
    let written = setup.write(&scratch).unwrap();
    let clean = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let foreign = secret_dir(scratch.path(), "mismatch", 0).join("tls.crt");
    fs::write(&foreign, certificate(&["c.test"]).certificate_pem()).unwrap();

    let output = sni_router_with(&["check", "--config"], &written.path);
    let text = clean(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let of = |tenant: &str| {
        let begin = text.find(&format!("tenant {tenant}:")).unwrap_or_else(|| panic!("{tenant} in {text}"));
        let rest = &text[begin + 7..];
        rest[..rest.find("\ntenant ").unwrap_or(rest.len())].to_owned()
    };
    assert!(!text.contains("tenant good:"), "{text}");
    let wide = of("wide");
    assert!(wide.contains("warning: ") && wide.contains("covers a.test of tenant good too"), "{wide}");
    let mismatch = of("mismatch");
    assert!(mismatch.contains("problem: ") && mismatch.contains("tls.key: this key does not belong"), "{mismatch}");
    assert!(mismatch.contains(&format!("see: openssl x509 -noout -pubkey -in {}", foreign.display())), "{mismatch}");
    let elsewhere = of("elsewhere");
    assert!(elsewhere.contains("problem: certificate does not cover d.test"), "{elsewhere}");
    assert!(of("soon").contains("warning: ") && of("soon").contains("expires at"), "{text}");

    let output = sni_router_with(&["check", "--json", "--config"], &written.path);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &document["ok"]), (Some(1), &Value::Bool(false)));
    let tenants: Vec<_> = document["certificates"].as_array().unwrap().iter().map(|note| &note["tenant"]).collect();
    assert_eq!(tenants, ["wide", "mismatch", "elsewhere", "soon"]);

    certificate(&["c.test"]).write_secret_dir(foreign.parent().unwrap(), owner_of(&written.path, "mismatch")).unwrap();
    certificate(&["d.test"])
        .write_secret_dir(&secret_dir(scratch.path(), "elsewhere", 0), owner_of(&written.path, "elsewhere"))
        .unwrap();
    let output = sni_router_with(&["check", "--config"], &written.path);
    assert_eq!(output.status.code(), Some(0), "warnings are no problems: {}", clean(&output));
}

fn owner_of(config: &Path, tenant: &str) -> Option<Owner> {
    tenant_owner(&config::Config::load(config).unwrap(), tenant).unwrap()
}

#[test]
fn the_schema_is_json_schema() {
    let output = Command::new(sni_router().unwrap()).arg("schema").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["properties"]["tenants"].is_object(), "{schema}");
}

fn passthrough(echo: &Echo) -> Setup {
    Setup::new().tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()))
}

fn sni_router_with(arguments: &[&str], file: &Path) -> Output {
    Command::new(sni_router().unwrap()).args(arguments).arg(file).env("NO_COLOR", "1").output().unwrap()
}
