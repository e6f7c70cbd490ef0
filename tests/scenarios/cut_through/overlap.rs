//! A peer may send bytes again together with new ones: 0 to 99, then 50 to 199. Whatever carries the connection delivers
//! each byte once.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustls::{ClientConfig, ClientConnection};
use tests::authority::{Authority, KeyKind};
use tests::client_tools::require_root;
use tests::fakes::Server;
use tests::hello::Hello;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::raw_tcp::RawTcp;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

use super::site::{NAME, PATHS, network};

#[test]
fn through_the_kernel() {
    passthrough("CutThrough", "cut_through");
}

#[test]
fn through_copy() {
    passthrough("Copy", "copy");
}

#[test]
fn through_splice() {
    passthrough("Splice", "splice");
}

#[test]
fn through_a_terminator() {
    let Some(stage) = Stage::new() else { return };
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[NAME], KeyKind::Ecdsa).unwrap();
    let tenant = Tenant::terminate("acme", &[NAME], stage.backend.address(), &certificate);
    let router = stage.router("Auto", tenant);
    let roots = authority.roots().unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    stage.at_client(|| {
        let mut tls = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
        let mut tcp = RawTcp::connect(40_001, router.address()).unwrap();
        while tls.is_handshaking() {
            tcp.write(&outgoing(&mut tls)).unwrap();
            if tls.is_handshaking() {
                let bytes = tcp.read().unwrap();
                tls.read_tls(&mut bytes.as_slice()).unwrap();
                tls.process_new_packets().unwrap();
            }
        }
        tcp.write(&outgoing(&mut tls)).unwrap();
        tcp.flush().unwrap();
        std::io::Write::write_all(&mut tls.writer(), &payload()).unwrap();
        overlap(&mut tcp, &outgoing(&mut tls));
        tls.send_close_notify();
        tcp.write(&outgoing(&mut tls)).unwrap();
        tcp.finish().unwrap();
    });
    assert_eq!(stage.received(), payload());
}

fn passthrough(data_path: &str, path: &str) {
    let Some(stage) = Stage::new() else { return };
    let router = stage.router(data_path, Tenant::passthrough("pinniped", &[NAME], stage.backend.address()));
    let hello = Hello::named(NAME).records();
    stage.at_client(|| {
        let mut tcp = RawTcp::connect(40_000, router.address()).unwrap();
        tcp.write(&hello).unwrap();
        tcp.flush().unwrap();
        if path == "cut_through" {
            eventually(PATIENCE, "the kernel has the flow", || {
                let metrics = stage.network.router.run(|| router.metrics()).unwrap();
                let carried = metrics.sum(PATHS, &[("path", path)]) == 1.0;
                (carried && metrics.sum("sni_router_cut_through_opening", &[]) == 0.0).then_some(())
            })
            .unwrap();
        }
        overlap(&mut tcp, &payload());
        tcp.finish().unwrap();
        // The backend's FIN.
        assert_eq!(tcp.read().unwrap(), [] as [u8; 0]);
    });
    assert!(stage.received() == [hello, payload()].concat(), "not the bytes that were sent");
    let taken = || stage.network.router.run(|| router.wait_for_metric(PATHS, &[("path", path)], 1.0));
    taken().unwrap();
}

/// Twice two hundred bytes in two segments that overlap: while the first one may still be on its way, and when it has
/// been acknowledged. The rest behind them.
fn overlap(tcp: &mut RawTcp, bytes: &[u8]) {
    let start = tcp.written();
    for (begin, acknowledged) in [(0, false), (200, true)] {
        let offset = start + begin as u32;
        tcp.write_at(offset, &bytes[begin..begin + 100]).unwrap();
        if acknowledged {
            tcp.flush().unwrap();
        }
        tcp.write_at(offset + 50, &bytes[begin + 50..begin + 200]).unwrap();
        tcp.flush().unwrap();
    }
    tcp.write(&bytes[400..]).unwrap();
    tcp.flush().unwrap();
}

fn payload() -> Vec<u8> {
    (0..400).map(|number: u32| (number * 7 + number / 256 + 3) as u8).collect()
}

fn outgoing(tls: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    bytes
}

struct Stage {
    network: Network,
    backend: Server,
    received: Receiver<Vec<u8>>,
}

impl Stage {
    fn new() -> Option<Self> {
        if !require_root("overlapping segments").unwrap() {
            return None;
        }
        let network = network();
        RawTcp::prepare(&network).unwrap();
        let (sender, received): (Sender<Vec<u8>>, _) = channel();
        let record = move |mut stream: std::net::TcpStream| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            let _ = sender.send(bytes);
            Ok(())
        };
        let address = network.backend.free_address().unwrap();
        let backend = network.backend.run(|| Server::start_on(address, record)).unwrap();
        Some(Self { network, backend, received })
    }

    fn router(&self, data_path: &str, tenant: Tenant) -> RouterProcess {
        let setup = Setup::new()
            .listener_address(self.network.router.address().into())
            .line(&format!("dataPath: {data_path}"))
            .tenant(tenant);
        self.network.router.run(|| RouterProcess::start(setup)).unwrap()
    }

    fn at_client(&self, work: impl FnOnce() + Send) {
        let done = || {
            work();
            Ok(())
        };
        self.network.client.run(done).unwrap();
    }

    fn received(&self) -> Vec<u8> {
        self.received.recv_timeout(PATIENCE).unwrap()
    }
}
