//! The clock is set back while everything runs. libfaketime answers the processes' questions for CLOCK_REALTIME and leaves
//! CLOCK_MONOTONIC as it is, which is what setting the clock does to them; timers of the kernel on the wall clock and the
//! times of files stay what they were, and nothing here uses or compares those.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::Signal;
use tests::authority::{Authority, KeyKind};
use tests::client_tools::{Tool, require};
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::raw_client::RawClient;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant, secret_dir};
use tests::tls_client::TlsClient;

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn a_clock_that_is_set_back_changes_what_the_log_says_and_nothing_else() {
    let Some(library) = require(Tool::FakeTime, "a clock that is set back").unwrap() else { return };
    let authority = Authority::new("scenario CA").unwrap();
    let echo = Echo::start().unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let idle = "idleTimeout: 2s";
    let setup = Setup::new()
        .line("accessLog: { path: \"-\", format: Json }")
        .tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()).line(idle))
        .tenant(Tenant::terminate("acme", &[TERMINATE], echo.address(), &certificate).line(idle));
    let variables = |folder: &Path| {
        set_clock(folder, "+0");
        let variable = |name, value: &dyn AsRef<std::ffi::OsStr>| (name, OsString::from(value));
        vec![
            variable("LD_PRELOAD", &library),
            variable("FAKETIME_TIMESTAMP_FILE", &clock_file(folder)),
            variable("FAKETIME_NO_CACHE", &"1"),
            variable("FAKETIME_DONT_FAKE_MONOTONIC", &"1"),
        ]
    };
    let router = RouterProcess::start_with_environment(setup, variables).unwrap();
    let client = TlsClient::trusting(&authority).unwrap();
    let hello = Hello::named(PASSTHROUGH).records();
    let passthrough = || {
        let passthrough = RawClient::connect(router.address()).unwrap();
        passthrough.send(&hello).unwrap();
        assert_eq!(passthrough.read(hello.len()).unwrap(), hello);
        passthrough
    };
    let terminated = || {
        let mut stream = client.connect(router.address(), TERMINATE).unwrap();
        stream.write_all(b"ping").unwrap();
        stream.flush().unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        stream
    };
    drop((passthrough(), terminated()));
    let today = wait_for_lines(&router, 2).pop().unwrap();

    let (before, mut before_terminated) = (passthrough(), terminated());
    set_clock(router.folder(), "-30d");
    // Established ones go on, new ones come, also with the tickets of before.
    before.send(b"ping").unwrap();
    assert_eq!(before.read(4).unwrap(), b"ping");
    before_terminated.write_all(b"ping").unwrap();
    before_terminated.flush().unwrap();
    before_terminated.read_exact(&mut [0; 4]).unwrap();
    drop((passthrough(), terminated()));
    let back = wait_for_lines(&router, 4).pop().unwrap();
    assert!(back < today, "the clock of the processes is not set back: {back}, {today}");

    // Time-outs are measured by the other clock: neither at once nor never.
    let begin = Instant::now();
    assert!(before.answer().bytes.is_empty());
    let end = before_terminated.read(&mut [0; 1]);
    assert!(!matches!(end, Ok(1..)), "{end:?}");
    assert!(begin.elapsed() < PATIENCE / 2);
    for name in ["sni_router_connections_total", "sni_terminator_connections_total"] {
        router.wait_for_metric(name, &[("outcome", "idle_timeout")], 1.0).unwrap();
    }
    // A reload, and a terminator that is started under the clock of before.
    let text = fs::read_to_string(router.config_file()).unwrap().replace("idleTimeout: 2s", "idleTimeout: 3s");
    let new = router.folder().join("config.edited");
    fs::write(&new, text).unwrap();
    fs::rename(&new, router.config_file()).unwrap();
    router.wait_for_metric("sni_router_config_reloads_total", &[("outcome", "ok")], 1.0).unwrap();
    drop((passthrough(), terminated()));
    router.signal(Signal::SIGTERM).unwrap();
    let mut router = router;
    assert!(router.wait_for_exit(PATIENCE).unwrap().success());
    let retired = router.log().with(&["terminator::serving::shutdown: retired"]);
    assert!(retired[0] < today, "the terminator's clock is not set back: {}", retired[0]);
}

/// The times that the first lines of the access log have, as soon as there are so many.
fn wait_for_lines(router: &RouterProcess, count: usize) -> Vec<String> {
    eventually(PATIENCE, "lines of the access log", || {
        let text = router.stdout().ok()?;
        let times = text.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(line["time"].as_str()?.to_owned())
        });
        let times: Vec<_> = times.collect();
        (times.len() >= count).then_some(times)
    })
    .unwrap()
}

/// In a folder that the terminator's sandbox lets it read.
fn clock_file(folder: &Path) -> std::path::PathBuf {
    secret_dir(folder, "acme", 0).join("clock")
}

fn set_clock(folder: &Path, offset: &str) {
    let new = folder.join("clock.new");
    fs::write(&new, offset).unwrap();
    fs::rename(new, clock_file(folder)).unwrap();
}
