//! The unit of deploy/systemd on a systemd that has booted: start, reload, upgrade, crash and stop as systemd sees them, with
//! all of the unit's hardening.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tests::client_tools::{Tool, require, require_root};
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::ports::free_address;
use tests::raw_client::RawClient;
use tests::systemd_host::SystemdHost;

#[test]
fn the_unit_starts_reloads_upgrades_survives_a_crash_and_stops() {
    if !require_root("a booted systemd").unwrap()
        || require(Tool::SystemdAnalyze, "a booted systemd").unwrap().is_none()
    {
        return;
    }
    let echo = Echo::start().unwrap();
    let [address, admin] = [(); 2].map(|()| free_address().unwrap());
    let config = |workers: usize, hostname: &str| {
        format!(
            "workers: {workers}\nadmin: {{ address: \"{admin}\" }}\nlisteners: [{{ name: tls, address: \"{address}\" }}]\ntenants:\n  - {{ name: echo, hostnames: [{hostname}], mode: Passthrough, backends: [{{ address: \"{}\" }}] }}\n",
            echo.address()
        )
    };
    let host = SystemdHost::boot(&config(2, "first.test")).unwrap();

    // Type=notify: when systemctl returns, everybody is served.
    host.order(&["start", "sni-router.service"]).unwrap();
    let held = connect(address, "first.test").unwrap();
    assert_eq!(host.property("StatusText").unwrap(), "serving 1 tenants on 1 listeners");
    assert_eq!(host.property("NFileDescriptorStore").unwrap(), "3", "a socket per worker, and the admin endpoint's");
    let supervisor = host.property("MainPID").unwrap();

    // By the process that runs, and by another one.
    for (workers, hostname, descriptors) in [(2, "second.test", "3"), (4, "third.test", "5")] {
        host.write_config(&config(workers, hostname)).unwrap();
        host.order(&["reload", "sni-router.service"]).unwrap();
        eventually(PATIENCE, hostname, || connect(address, hostname).ok())
            .unwrap_or_else(|error| panic!("{error}\n{}", host.log()));
        ping(&held).unwrap();
        let is_kept = || (host.property("NFileDescriptorStore").ok()? == descriptors).then_some(());
        eventually(PATIENCE, "all sockets are kept", is_kept).unwrap();
    }

    let upgraded = host.run(&["sni-router", "upgrade", "--config", "/etc/sni-router/config.yaml"]).unwrap();
    assert!(upgraded.status.success(), "{upgraded:?}\n{}", host.log());
    let has_followed = || host.log().contains("this supervisor goes on as another version").then_some(());
    eventually(PATIENCE, "the supervisor follows", has_followed).unwrap();
    ping(&held).unwrap();
    drop(connect(address, "third.test").unwrap());
    assert_eq!(host.property("MainPID").unwrap(), supervisor);
    assert_eq!(host.property("ActiveState").unwrap(), "active");

    // A crash takes everything with it but the sockets that systemd keeps: nobody is refused.
    host.order(&["kill", "--signal=KILL", "sni-router.service"]).unwrap();
    let is_another = || {
        drop(connect(address, "third.test").unwrap_or_else(|error| panic!("{error}\n{}", host.log())));
        let now = host.property("MainPID").ok()?;
        (now != "0" && now != supervisor).then_some(())
    };
    eventually(PATIENCE, "systemd has started it again", is_another).unwrap();
    assert_eq!(host.property("NRestarts").unwrap(), "1");

    host.order(&["stop", "sni-router.service"]).unwrap();
    assert_eq!(host.property("Result").unwrap(), "success", "{}", host.log());
    assert_eq!(host.property("ActiveState").unwrap(), "inactive");
    assert!(RawClient::connect(address).is_err());
}

/// A connection whose hello has come back.
fn connect(address: SocketAddr, name: &str) -> Result<RawClient> {
    let client = RawClient::connect(address)?;
    let hello = Hello::named(name).records();
    client.send(&hello)?;
    ensure!(client.read(hello.len())? == hello, "{name}: another echo");
    Ok(client)
}

fn ping(client: &RawClient) -> Result<()> {
    client.send(b"ping")?;
    ensure!(client.read(4)? == b"ping", "another echo");
    Ok(())
}
