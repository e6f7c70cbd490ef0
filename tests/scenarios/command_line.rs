//! What the commands answer, and with which exit code: 0 ok, 1 the input is wrong, 2 the system refused.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tests::binaries::sni_router;
use tests::fakes::Echo;
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant};

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
