//! `perSource` and `limits` on connections that the kernel carries.

use anyhow::Result;
use nix::sys::signal::Signal;
use tests::client_tools::require_root;
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::raw_client::RawClient;
use tests::router_process::{RouterProcess, send_signal};
use tests::setup::{Setup, Tenant};

use super::site::{NAME, PATHS, network};

#[test]
fn a_carried_connection_is_one_of_its_source_until_the_flow_ends() {
    let Some(scene) = Scene::start("perSource: { maxConnections: 1 }", "") else { return };
    let carried = scene.carried(1.0);
    assert_eq!(scene.answer().unwrap().1, ALERT_RECORD);
    drop(carried);
    scene.there_is_room_again();
}

#[test]
fn it_still_is_in_another_process_and_one_of_its_tenant_too() {
    let bound = "maxConnections: 2";
    for (per_source, limits) in
        [(format!("perSource: {{ {bound} }}"), ""), (String::new(), "limits: { maxConnections: 2 }")]
    {
        let Some(scene) = Scene::start(&per_source, limits) else { return };
        let carried = [scene.carried(1.0), scene.carried(2.0)];
        for leave in [Signal::SIGUSR2, Signal::SIGKILL] {
            let former = scene.router.router_pid().unwrap();
            match leave {
                Signal::SIGUSR2 => scene.router.signal(leave).unwrap(),
                _ => send_signal(former, leave).unwrap(),
            }
            let active = || {
                let pid = scene.router.router_pid().ok().filter(|pid| *pid != former)?;
                let metrics = scene.network.router.run(|| scene.router.metrics()).ok()?;
                (metrics.sum("sni_router_connections_active", &[("tenant", "pinniped")]) == 2.0).then_some(pid)
            };
            eventually(PATIENCE, "the next process counts them", active).unwrap();
            assert_eq!(scene.answer().unwrap().1, ALERT_RECORD, "{per_source}{limits} after {leave}");
        }
        drop(carried);
        scene.there_is_room_again();
    }
}

/// A router with bounds, and an echo behind it.
struct Scene {
    router: RouterProcess,
    network: Network,
    _echo: Echo,
}

impl Scene {
    fn start(listener_line: &str, tenant_line: &str) -> Option<Self> {
        if !require_root("cut-through").unwrap() {
            return None;
        }
        let network = network();
        let address = network.backend.free_address().unwrap();
        let _echo = network.backend.run(|| Echo::start_on(address)).unwrap();
        let setup = Setup::new()
            .line("dataPath: CutThrough")
            .listener_address(network.router.address().into())
            .listener_line(listener_line)
            .tenant(Tenant::passthrough("pinniped", &[NAME], address).line(tenant_line));
        let router = network.router.run(|| RouterProcess::start(setup)).unwrap();
        Some(Self { router, network, _echo })
    }

    /// Another connection and the first byte of what it is told.
    fn answer(&self) -> Result<(RawClient, u8)> {
        self.network.client.run(|| {
            let client = RawClient::connect(self.router.address())?;
            client.send(&Hello::named(NAME).records())?;
            let first = client.read(1)?[0];
            Ok((client, first))
        })
    }

    /// Another connection, which is carried as one of so many of this router.
    fn carried(&self, number: f64) -> RawClient {
        let (client, first) = self.answer().unwrap();
        assert_eq!(first, HANDSHAKE_RECORD);
        let is_carried = || self.router.wait_for_metric(PATHS, &[("path", "cut_through")], number);
        self.network.router.run(is_carried).unwrap();
        client
    }

    fn there_is_room_again(&self) {
        eventually(PATIENCE, "the flow's end makes room", || {
            self.answer().ok().filter(|(_, first)| *first == HANDSHAKE_RECORD).map(drop)
        })
        .unwrap();
    }
}

/// RFC 8446 section 5.1.
const HANDSHAKE_RECORD: u8 = 22;
/// RFC 8446 section 5.1.
const ALERT_RECORD: u8 = 21;
