//! What the admin socket in the runtimeDir can be asked to do, and the admin address cannot.

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tests::fakes::Echo;
use tests::http::{self, Response};
use tests::patience::PATIENCE;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::tcp;

use crate::reload::passthrough;
use crate::two_tenants::PASSTHROUGH;

#[test]
fn a_reload_reads_the_file_again() {
    let (_echo, router) = start();
    let answer = at_socket(&router, "/v1/reload");
    assert_eq!((answer.status, answer.body.starts_with("reload: asked for")), (202, true), "{}", answer.body);
    router.log().wait_for(PATIENCE, &["reading the configuration file again, as asked for"]).unwrap();
    router.wait_for_metric(RELOADS, &[("outcome", "ok")], 1.0).unwrap();

    // What is wrong is refused as by a signal. Whether the change of the file or the command is first, is all the same.
    fs::write(router.config_file(), "listeners: []\n").unwrap();
    assert_eq!(at_socket(&router, "/v1/reload").status, 202);
    router.wait_for_metric(RELOADS, &[("outcome", "invalid")], 1.0).unwrap();
    passthrough(&router, PASSTHROUGH);
}

#[test]
fn a_drain_ends_what_is_established_in_order_and_then_the_processes() {
    let (_echo, mut router) = start();
    let established = passthrough(&router, PASSTHROUGH);
    let answer = at_socket(&router, "/v1/drain");
    assert_eq!((answer.status, answer.body.starts_with("drain: asked for")), (202, true), "{}", answer.body);
    router.log().wait_for(PATIENCE, &["draining; a second signal stops at once"]).unwrap();
    // It is still served, and is the last one.
    established.send(b"still there").unwrap();
    assert_eq!(established.read(11).unwrap(), b"still there");
    drop(established);
    assert!(router.wait_for_exit(PATIENCE).unwrap().success());
}

#[test]
fn nothing_changes_at_the_address_and_nothing_unknown_at_the_socket() {
    let (_echo, router) = start();
    for command in ["/v1/reload", "/v1/drain", "/v1/upgrade", "/metrics"] {
        let mut stream = tcp(router.admin()).unwrap();
        let answer = http::post(&mut stream, "localhost", command).unwrap();
        assert_eq!(answer.status, 405, "{command}: {}", answer.body);
    }
    for unknown in ["/v1/stop", "/reload", "/v1/"] {
        assert_eq!(at_socket(&router, unknown).status, 404, "{unknown}");
    }
    assert!(router.log().with(&["as asked for"]).is_empty() && router.log().with(&["draining"]).is_empty());
    assert_eq!(router.metrics().unwrap().sum(RELOADS, &[]), 0.0);
    passthrough(&router, PASSTHROUGH);
}

fn start() -> (Echo, RouterProcess) {
    let echo = Echo::start().unwrap();
    let setup = Setup::new().tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()));
    let router = RouterProcess::start(setup).unwrap();
    (echo, router)
}

fn at_socket(router: &RouterProcess, path: &str) -> Response {
    let mut stream = UnixStream::connect(router.folder().join("run/admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE + Duration::from_secs(5))).unwrap();
    http::post(&mut stream, "localhost", path).unwrap()
}

const RELOADS: &str = "sni_router_config_reloads_total";
