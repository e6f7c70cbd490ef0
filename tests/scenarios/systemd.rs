//! What systemd hears of a service of Type=notify, and what it thinks of the unit file.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use nix::sys::signal::Signal;
use tests::binaries;
use tests::fakes::Echo;
use tests::patience::PATIENCE;
use tests::router_process::RouterProcess;
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant};

use crate::two_tenants::PASSTHROUGH;

#[test]
fn it_hears_of_readiness_reloads_upgrades_and_the_end() {
    let mut socket = None;
    let echo = Echo::start().unwrap();
    let setup = Setup::new().tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()));
    let mut router = RouterProcess::start_with_environment(setup, |folder| {
        let path = folder.join("notify");
        socket = Some(UnixDatagram::bind(&path).unwrap());
        vec![("NOTIFY_SOCKET", path.into())]
    })
    .unwrap();
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).expect("systemd is told");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let ready = "READY=1\nSTATUS=serving 1 tenants on 1 listeners";
    assert_eq!(heard(), ready);

    router.signal(Signal::SIGHUP).unwrap();
    let reloading = heard();
    let since = |text: &str| -> u64 {
        text.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap().parse().unwrap()
    };
    assert!(reloading.starts_with("RELOADING=1\n"), "{reloading}");
    assert_eq!(heard(), ready);

    // The supervisor becomes another program in between, under the same pid: there is no MAINPID to be told.
    router.signal(Signal::SIGUSR2).unwrap();
    let upgrading = heard();
    assert!(upgrading.starts_with("RELOADING=1\n") && since(&upgrading) > since(&reloading), "{upgrading}");
    assert_eq!(heard(), ready);
    assert_eq!(router.log().with(&["this supervisor goes on as another version"]).len(), 1);

    router.signal(Signal::SIGTERM).unwrap();
    assert_eq!(heard(), "STOPPING=1\nSTATUS=draining");
    assert!(router.wait_for_exit(PATIENCE).unwrap().success());
}

#[test]
fn the_unit_file_is_one_that_systemd_understands() {
    let unit = fs::read_to_string(binaries::workspace_folder().join("deploy/systemd/sni-router.service")).unwrap();
    let scratch = Scratch::new().unwrap();
    // verify looks for the program, too.
    let program = binaries::sni_router().unwrap();
    let path = scratch.write("sni-router.service", &unit.replace("/usr/bin/sni-router", program.to_str().unwrap()));
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(path.unwrap()).output();
    match verified {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains("sni-router.service"), "{said}");
        }
        Err(error) => eprintln!("not verified: systemd-analyze: {error}"),
    }
}
