//! `sni-router status` and the pages that it reads.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tests::authority::{Authority, KeyKind};
use tests::binaries::sni_router;
use tests::fakes::PlainHttp;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

use crate::two_tenants::{PASSTHROUGH, TERMINATE, TwoTenants};

#[test]
fn a_person_and_a_program_see_tenants_certificates_backends_and_confinement() {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    for name in [PASSTHROUGH, TERMINATE] {
        assert_eq!(tenants.tls_client().get(router.address(), name, "/").unwrap().status, 200);
    }
    for tenant in ["pinniped", "acme"] {
        router.wait_for_metric("sni_router_connections_total", &[("tenant", tenant), ("outcome", "ok")], 1.0).unwrap();
    }
    let by_socket = status(&router.folder().join("run/admin.sock").display().to_string(), true);
    let document: Value = serde_json::from_slice(&by_socket.stdout).unwrap();
    let tenant = |name: &str| {
        let all = document["tenants"].as_array().unwrap();
        all.iter().find(|tenant| tenant["name"] == name).unwrap().clone()
    };
    assert_eq!((&tenant("pinniped")["mode"], &tenant("pinniped")["total"]), (&"Passthrough".into(), &1.into()));
    let acme = tenant("acme");
    assert_eq!(
        (&acme["mode"], &acme["total"], &acme["hostnames"][0]),
        (&"Terminate".into(), &1.into(), &TERMINATE.into())
    );
    let terminator = &acme["terminator"];
    assert_eq!((&terminator["state"], &terminator["restarts"]), (&"up".into(), &0.into()));
    assert_eq!(terminator["pid"], router.terminator_pid("acme").unwrap());
    let parts = terminator["confinement"].as_array().unwrap();
    assert!(parts.iter().any(|part| part["part"] == "seccomp" && part["holds"] == true), "{parts:?}");
    // What does not hold says why.
    assert!(parts.iter().all(|part| part["holds"] == true || part["reason"].as_str().is_some_and(|r| !r.is_empty())));
    let certificate = &document["certificates"][0];
    assert_eq!((&certificate["tenant"], &certificate["names"][0]), (&"acme".into(), &TERMINATE.into()));
    assert!(certificate["notAfter"].as_i64().unwrap() > certificate["notBefore"].as_i64().unwrap());
    let backends = document["backends"].as_array().unwrap();
    assert!(backends.len() == 2 && backends.iter().all(|backend| backend["up"] == true), "{backends:?}");

    let by_address = status(&format!("http://{}", router.admin()), false);
    let screen = String::from_utf8(by_address.stdout).unwrap();
    for words in [["acme", "Terminate", "up, pid"], ["pinniped", "Passthrough", "-"], ["acme", "127.0.0.1:", "up"]] {
        let has = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(screen.lines().any(has), "{words:?} in:\n{screen}");
    }
}

#[test]
fn a_certificate_that_covers_another_tenants_name_is_told() {
    let backend = PlainHttp::start("acme").unwrap();
    let authority = Authority::new("scenario CA").unwrap();
    let wide = authority.server(&["*.acme.test"], KeyKind::Ecdsa).unwrap();
    let setup = Setup::new()
        .tenant(Tenant::terminate("wide", &["api.acme.test"], backend.address(), &wide))
        .tenant(Tenant::passthrough("other", &["www.acme.test"], backend.address()));
    let router = RouterProcess::start(setup).unwrap();
    let page = router.admin_get("/v1/certificates").unwrap().json().unwrap();
    let overlap = &page["certificates"][0]["overlap"];
    assert_eq!((&overlap["hostname"], &overlap["tenant"]), (&"www.acme.test".into(), &"other".into()));
    let screen = status(&format!("http://{}", router.admin()), false).stdout;
    let screen = String::from_utf8(screen).unwrap();
    assert!(screen.contains("covers www.acme.test of tenant other too"), "{screen}");
}

#[test]
fn a_router_that_is_not_there_is_2_and_a_line_that_helps() {
    let output =
        Command::new(sni_router().unwrap()).args(["status", "--admin", "/nowhere/admin.sock"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("/nowhere/admin.sock") && complaint.contains("does it run?"), "{complaint}");
}

#[test]
fn only_who_started_the_router_may_open_its_admin_socket() {
    use std::os::unix::fs::PermissionsExt;
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    let socket: &Path = &router.folder().join("run/admin.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

fn status(admin: &str, json: bool) -> Output {
    let mut command = Command::new(sni_router().unwrap());
    command.args(["status", "--admin", admin]);
    if json {
        command.arg("--json");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}
