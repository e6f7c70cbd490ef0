//! ENFILE, ENOBUFS and ENOMEM, injected into the system calls of running processes.

use tests::client_tools::{Tool, require, require_root};
use tests::patience::PATIENCE;
use tests::raw_client::RawClient;
use tests::shortage::{FailingCalls, ensure_no_busy_loop};

use super::scene::{Scene, terminated};
use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn a_router_that_cannot_accept_tries_again_now_and_then() {
    let Some(strace) = injector() else { return };
    let mut scene = Scene::start();
    let router = scene.router.router_pid().unwrap();
    for (error, reason) in [("ENFILE", "no_descriptors"), ("ENOBUFS", "no_memory"), ("ENOMEM", "no_memory")] {
        let failing = FailingCalls::inject(&strace, router, "accept4", error).unwrap();
        let waiting = RawClient::connect(scene.router.address()).unwrap();
        waiting.send(b"S").unwrap();
        ensure_no_busy_loop(router).unwrap();
        scene.ping_established();
        drop(failing);
        scene.assert_counted("sni_router_accept_errors_total", &[("reason", reason)]);
        scene.assert_recovered();
    }
    scene.router.log().wait_for(PATIENCE, &["accept: short of resources"]).unwrap();
}

#[test]
fn a_router_that_gets_no_socket_for_the_backend_says_so_to_the_client() {
    let Some(strace) = injector() else { return };
    let mut scene = Scene::start();
    let router = scene.router.router_pid().unwrap();
    for (error, outcome) in [("ENFILE", "no_descriptors"), ("ENOBUFS", "no_memory"), ("ENOMEM", "no_memory")] {
        let failing = FailingCalls::inject(&strace, router, "socket", error).unwrap();
        scene.until_an_alert(PASSTHROUGH);
        drop(failing);
        scene.assert_counted("sni_router_connections_total", &[("tenant", "pinniped"), ("outcome", outcome)]);
        scene.assert_recovered();
    }
}

#[test]
fn a_hand_off_without_memory_is_waited_for() {
    let Some(strace) = injector() else { return };
    let mut scene = Scene::start();
    let router = scene.router.router_pid().unwrap();
    for error in ["ENOBUFS", "ENOMEM"] {
        let failing = FailingCalls::inject(&strace, router, "sendmsg", error).unwrap();
        scene.until_an_alert(TERMINATE);
        ensure_no_busy_loop(router).unwrap();
        drop(failing);
        scene.assert_recovered();
    }
    let labels = [("tenant", "acme"), ("reason", "no_memory")];
    scene.router.wait_for_metric("sni_router_handoff_waits_total", &labels, 2.0).unwrap();
}

#[test]
fn a_terminator_that_gets_no_socket_for_the_backend_counts_that() {
    let Some(strace) = injector() else { return };
    let mut scene = Scene::start();
    let terminator = scene.router.terminator_pid("acme").unwrap();
    for (error, outcome) in [("ENFILE", "no_descriptors"), ("ENOBUFS", "no_memory"), ("ENOMEM", "no_memory")] {
        let failing = FailingCalls::inject(&strace, terminator, "socket", error).unwrap();
        assert!(terminated(&scene.client, scene.router.address()).is_err());
        ensure_no_busy_loop(terminator).unwrap();
        drop(failing);
        scene.assert_counted("sni_terminator_connections_total", &[("tenant", "acme"), ("outcome", outcome)]);
        scene.assert_recovered();
    }
}

fn injector() -> Option<std::path::PathBuf> {
    if !require_root("system calls that fail").unwrap() {
        return None;
    }
    require(Tool::Strace, "system calls that fail").unwrap()
}
