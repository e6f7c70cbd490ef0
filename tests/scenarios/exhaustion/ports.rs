//! EADDRNOTAVAIL: every local port towards a backend is in use.

use tests::authority::Authority;
use tests::client_tools::require_root;
use tests::fakes::Echo;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::raw_client::RawClient;
use tests::router_process::RouterProcess;
use tests::shortage::ensure_no_busy_loop;
use tests::tls_client::TlsClient;

use super::scene::{passthrough, refused, setup, terminated};
use crate::two_tenants::PASSTHROUGH;

#[test]
fn without_a_port_the_client_hears_of_it_until_there_is_one_again() {
    if !require_root("a range of ports of our own").unwrap() {
        return;
    }
    let network = Network::isolated().unwrap();
    network.router.set("ipv4/ip_local_port_range", "40000 40009").unwrap();
    let authority = Authority::new("scenario CA").unwrap();
    let address = network.backend.free_address().unwrap();
    let _echo = network.backend.run(|| Echo::start_on(address)).unwrap();
    // Cut-through dials from ports of its own (`cut_through/reasons.rs`).
    let setup = setup(&authority, address).line("dataPath: Splice").listener_address(network.router.address().into());
    let router = network.router.run(|| RouterProcess::start(setup)).unwrap();
    let at = router.address();
    let client = TlsClient::trusting(&authority).unwrap();
    let counted = |name: &str, tenant: &str| {
        let labels = [("tenant", tenant), ("outcome", "no_local_port")];
        network.router.run(|| router.wait_for_metric(name, &labels, 1.0)).unwrap();
    };

    let mut held: Vec<RawClient> = Vec::new();
    while let Ok(one) = network.client.run(|| passthrough(at)) {
        held.push(one);
        assert!(held.len() <= 10, "more connections than ports");
    }
    let alert = network.client.run(|| refused(at, PASSTHROUGH)).unwrap().alert();
    assert_eq!(alert, Some(INTERNAL_ERROR));
    assert!(network.client.run(|| terminated(&client, at)).is_err());
    counted("sni_router_connections_total", "pinniped");
    counted("sni_terminator_connections_total", "acme");
    ensure_no_busy_loop(router.router_pid().unwrap()).unwrap();
    ensure_no_busy_loop(router.terminator_pid("acme").unwrap()).unwrap();

    // A RST leaves no TIME_WAIT behind, which would keep the port for a minute more.
    held.drain(..).for_each(|one| one.reset().unwrap());
    let terminate = || network.client.run(|| terminated(&client, at)).ok();
    let _terminated = eventually(PATIENCE, "a port for the terminator", terminate).unwrap();
    eventually(PATIENCE, "a port for the router", || network.client.run(|| passthrough(at)).ok()).unwrap();
}

/// RFC 8446 section 6.2.
const INTERNAL_ERROR: u8 = 80;
