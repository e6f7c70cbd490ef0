//! What systemd hears of a service of Type=notify, and what it thinks of the unit file.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use nix::sys::signal::Signal;
use tests::binaries;
use tests::client_tools::{Tool, require};
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
    // What is to outlive this process comes ahead of anything else (`socket_activation.rs` has the rest of that).
    assert_eq!(heard(), "FDSTORE=1\nFDNAME=listener.tls");
    assert_eq!(heard(), "FDSTORE=1\nFDNAME=admin.address");
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
fn the_unit_files_are_ones_that_systemd_understands() {
    let scratch = Scratch::new().unwrap();
    let program = binaries::sni_router().unwrap();
    let Some(analyze) = require(Tool::SystemdAnalyze, "the unit files").unwrap() else { return };
    let mut verify = Command::new(analyze);
    verify.args(["verify", "--man=no"]);
    // The socket unit names the service, and verify looks for the program, too.
    for name in ["sni-router.service", "sni-router.socket"] {
        let unit = fs::read_to_string(binaries::workspace_folder().join("deploy/systemd").join(name)).unwrap();
        let unit = unit.replace("/usr/bin/sni-router", program.to_str().unwrap());
        verify.arg(scratch.write(name, &unit).unwrap());
    }
    let output = verify.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("sni-router."), "{said}");
}

#[test]
fn the_services_exposure_does_not_grow() {
    let Some(analyze) = require(Tool::SystemdAnalyze, "the unit's exposure").unwrap() else { return };
    let unit = binaries::workspace_folder().join("deploy/systemd/sni-router.service");
    let output = Command::new(analyze).args(["security", "--offline=yes", EXPOSURE]).arg(unit).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_socket_unit_is_what_the_listening_sockets_are_without_it() {
    let folder = binaries::workspace_folder().join("deploy/systemd");
    let read = |name| fs::read_to_string(folder.join(name)).unwrap();
    let (socket, service) = (read("sni-router.socket"), read("sni-router.service"));
    for line in ["FileDescriptorName=tls", "ReusePort=yes", "BindIPv6Only=both", "Backlog=4096"] {
        assert!(socket.lines().any(|own| own == line), "{line}\n{socket}");
    }
    assert!(service.lines().any(|line| line.starts_with("FileDescriptorStoreMax=")), "{service}");
}

/// Of 100; most of it are the rights that the supervisor gives its children less of.
const EXPOSURE: &str = "--threshold=60";
