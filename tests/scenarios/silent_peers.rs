//! Clients that vanish without a word: with `tcp.keepalive` nobody holds their connections until `idleTimeout`.

use std::io::{Read, Write};
use std::net::SocketAddr;

use tests::authority::{Authority, KeyKind};
use tests::client_tools::require_root;
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::raw_client::RawClient;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn keepalive_ends_the_connections_of_a_client_whose_cable_is_cut() {
    if !require_root("a cable to be cut").unwrap() {
        return;
    }
    let network = Network::isolated().unwrap();
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let router = network.router.run(|| {
        let echo = Echo::start()?;
        let setup = Setup::new()
            .line("dataPath: Copy")
            .listener_address(network.router.address().into())
            .tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address()).line(KEEPALIVE))
            .tenant(Tenant::terminate("acme", &[TERMINATE], echo.address(), &certificate).line(KEEPALIVE));
        Ok((RouterProcess::start(setup)?, echo))
    });
    let (router, _echo) = router.unwrap();
    let address: SocketAddr = (network.router.address(), router.address().port()).into();
    let established = network.client.run(|| {
        let passthrough = RawClient::connect(address)?;
        let hello = Hello::named(PASSTHROUGH).records();
        passthrough.send(&hello)?;
        assert_eq!(passthrough.read(hello.len())?, hello);
        let mut terminated = TlsClient::trusting(&authority)?.connect(address, TERMINATE)?;
        terminated.write_all(b"ping")?;
        terminated.flush()?;
        terminated.read_exact(&mut [0; 4])?;
        Ok((passthrough, terminated))
    });
    let established = established.unwrap();

    network.client.ip("link set to-router down").unwrap();
    let ended = |name: &str, tenant: &str| {
        let labels = [("tenant", tenant), ("outcome", "client_error")];
        eventually(PATIENCE, &format!("{tenant}'s connection is given up"), || {
            let metrics = network.router.run(|| router.metrics()).ok()?;
            (metrics.sum(name, &labels) == 1.0).then_some(())
        })
        .unwrap();
    };
    ended("sni_router_connections_total", "pinniped");
    ended("sni_terminator_connections_total", "acme");
    drop(established);
}

const KEEPALIVE: &str = "tcp: { keepalive: { after: 1s, interval: 1s, probes: 2 }, userTimeout: 3s }";
