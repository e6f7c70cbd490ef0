//! `perSource` on connections that the kernel carries.

use tests::client_tools::require_root;
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::raw_client::RawClient;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

use super::site::{NAME, PATHS, network};

#[test]
fn a_carried_connection_is_one_of_its_source_until_the_flow_ends() {
    if !require_root("cut-through").unwrap() {
        return;
    }
    let network = network();
    let address = network.backend.free_address().unwrap();
    let _echo = network.backend.run(|| Echo::start_on(address)).unwrap();
    let setup = Setup::new()
        .line("dataPath: CutThrough")
        .listener_address(network.router.address().into())
        .listener_line("perSource: { maxConnections: 1 }")
        .tenant(Tenant::passthrough("pinniped", &[NAME], address));
    let router = network.router.run(|| RouterProcess::start(setup)).unwrap();
    let answer = || {
        network.client.run(|| {
            let client = RawClient::connect(router.address())?;
            client.send(&Hello::named(NAME).records())?;
            let first = client.read(1)?[0];
            Ok((client, first))
        })
    };
    let (carried, first) = answer().unwrap();
    assert_eq!(first, HANDSHAKE_RECORD);
    network.router.run(|| router.wait_for_metric(PATHS, &[("path", "cut_through")], 1.0)).unwrap();
    assert_eq!(answer().unwrap().1, ALERT_RECORD);
    drop(carried);
    eventually(PATIENCE, "the flow's end makes room", || {
        answer().ok().filter(|(_, first)| *first == HANDSHAKE_RECORD).map(drop)
    })
    .unwrap();
}

/// RFC 8446 section 5.1.
const HANDSHAKE_RECORD: u8 = 22;
/// RFC 8446 section 5.1.
const ALERT_RECORD: u8 = 21;
