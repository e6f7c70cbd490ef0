//! The kernel carries passthrough connections past the router, in network namespaces of their own.

mod auto;
mod combinations;
mod deaths;
mod fallbacks;
mod forgeries;
mod former;
mod interfaces;
mod lifetime;
mod lines;
mod loss;
mod netfilter;
mod overlap;
mod path_mtu;
mod plan;
mod reasons;
mod reload;
mod reordering;
mod site;
mod source_limits;
mod successor;
mod suite;
mod upgrade;

use serde_json::Value;
use tests::authority::{Authority, KeyKind};
use tests::client_tools::require_root;
use tests::fakes::IdentityBackend;
use tests::patience::{PATIENCE, eventually};
use tests::processes::status;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use self::site::{NAME, PATHS, Site, VERDICTS, network};

#[test]
fn mutual_tls_stays_end_to_end_and_the_kernel_counts_its_packets() {
    if !require_root("cut-through").unwrap() {
        return;
    }
    let network = network();
    let authority = Authority::new("scenario CA").unwrap();
    let server = authority.server(&[NAME], KeyKind::Ecdsa).unwrap();
    let identity = authority.client("somebody").unwrap();
    let address = network.backend.free_address().unwrap();
    let backend = network.backend.run(|| IdentityBackend::start_on(address, "pinniped", &server, &authority)).unwrap();
    let setup = Setup::new()
        .listener_address(network.router.address().into())
        .line("dataPath: CutThrough")
        .line("accessLog: { path: \"-\", format: Json }")
        .tenant(Tenant::passthrough("pinniped", &[NAME], backend.address()));
    let router = network.router.run(|| RouterProcess::start(setup)).unwrap();

    let client = TlsClient::trusting(&authority).unwrap().with_identity(&identity);
    let seen = network.client.run(|| client.get(router.address(), NAME, "/")).unwrap().json().unwrap();
    assert_eq!(seen["commonName"], "somebody");
    assert_eq!(seen["sha256"], identity.sha256());

    let metrics = network.router.run(|| router.metrics()).unwrap();
    assert_eq!(metrics.sum(PATHS, &[("path", "cut_through")]), 1.0);
    assert_eq!(metrics.sum(PATHS, &[]), 1.0);
    assert!(metrics.sum(VERDICTS, &[("program", "cut_through"), ("verdict", "forwarded")]) >= 4.0);
    let line = eventually(PATIENCE, "a line of the access log", || {
        serde_json::from_str::<Value>(router.stdout().ok()?.lines().next()?).ok()
    })
    .unwrap();
    assert_eq!((&line["data_path"], &line["outcome"]), (&"cut_through".into(), &"ok".into()));
    assert!(line["client_to_backend"].as_u64() > Some(500) && line["backend_to_client"].as_u64() > Some(500), "{line}");
}

#[test]
fn the_router_keeps_cap_net_admin_and_nothing_else() {
    let Some(site) = Site::new("the router's capabilities", "CutThrough") else { return };
    let status = status(site.router.router_pid().unwrap()).unwrap();
    assert_eq!(status.uids().unwrap(), [config::DEFAULT_ROUTER_UID; 4]);
    for (set, expected) in [("CapEff", CAP_NET_ADMIN), ("CapPrm", CAP_NET_ADMIN), ("CapInh", 0), ("CapAmb", 0)] {
        assert_eq!(status.capabilities(set).unwrap(), expected, "{set}");
    }
    assert_eq!(status.field("NoNewPrivs").unwrap(), "1");
}

const CAP_NET_ADMIN: u64 = 1 << 12;
