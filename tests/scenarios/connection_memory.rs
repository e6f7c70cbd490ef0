//! What one connection may cost the process that has it, on each data path: the bounds that ARCHITECTURE.md states, measured
//! over thousands of them. They have a margin for builds that are not optimised; `cargo xtask bench datapath` has the
//! numbers of those that are.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::authority::{Authority, KeyKind};
use tests::client_tools::require_root;
use tests::fakes::Server;
use tests::hello::Hello;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::processes::{Pid, proportional_set_size};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

#[test]
fn an_idle_connection_that_is_relayed() {
    for data_path in ["Copy", "Splice"] {
        idle(data_path, 16 * 1024);
    }
}

#[test]
fn an_idle_connection_that_the_kernel_carries() {
    idle("CutThrough", 4 * 1024);
}

#[test]
fn an_idle_connection_that_is_terminated() {
    idle("Terminate", 48 * 1024);
}

/// The kernel's buffers on both sides are full: what the process itself holds is a rest of at most one buffer.
#[test]
fn a_connection_whose_reader_has_stopped() {
    for (mode, bound) in [("Copy", 80 * 1024), ("Splice", 32 * 1024), ("Terminate", 160 * 1024)] {
        let Some(scene) = Scene::start(mode) else { return };
        let send = |clients: &mut Vec<Client>| {
            clients.iter().for_each(|client| client.socket().set_nonblocking(true).unwrap());
            // Until nobody has got rid of a byte for a while.
            let mut quiet = 0;
            while quiet < 20 {
                let sent: usize = clients.iter_mut().map(Client::send_what_fits).sum();
                quiet = if sent > 0 { 0 } else { quiet + 1 };
                thread::sleep(Duration::from_millis(10));
            }
        };
        scene.assert_each_below(bound, STALLED, send);
    }
}

fn idle(mode: &str, bound: u64) {
    let Some(scene) = Scene::start(mode) else { return };
    scene.assert_each_below(bound, IDLE, |_| ());
}

struct Scene {
    mode: String,
    network: Network,
    router: RouterProcess,
    client: TlsClient,
    _backend: Server,
}

enum Client {
    Plain(TcpStream),
    Tls(Box<tests::tls_client::TlsStream>),
}

impl Scene {
    /// Its backend answers the first bytes and then does nothing.
    fn start(mode: &str) -> Option<Self> {
        if !require_root("memory on three hosts").unwrap() {
            return None;
        }
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
        let network = Network::isolated().unwrap();
        // For cut-through.
        network.router.set("ipv4/ip_local_port_range", "32768 60999").unwrap();
        network.router.set("ipv4/ip_forward", "0").unwrap();
        for place in [&network.client, &network.router, &network.backend] {
            // Small ones are soon full.
            place.set("ipv4/tcp_rmem", "4096 16384 65536").unwrap();
            place.set("ipv4/tcp_wmem", "4096 16384 65536").unwrap();
        }
        let kept = Mutex::new(Vec::new());
        let serve = move |mut stream: TcpStream| -> io::Result<()> {
            let read = stream.read(&mut [0; 4096])?;
            stream.write_all(&vec![b'x'; read.min(1)])?;
            // Until the scene ends; a thread for each would wait for nothing.
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            Ok(())
        };
        let backend = network.backend.run(|| Server::start_on(network.backend.free_address()?, serve)).unwrap();
        let authority = Authority::new("scenario CA").unwrap();
        let certificate = authority.server(&[NAME], KeyKind::Ecdsa).unwrap();
        let (data_path, tenant) = match mode {
            "Terminate" => ("Copy", Tenant::terminate("acme", &[NAME], backend.address(), &certificate)),
            data_path => (data_path, Tenant::passthrough("acme", &[NAME], backend.address())),
        };
        let setup = Setup::new()
            .line("workers: 2")
            .line(&format!("dataPath: {data_path}"))
            .listener_address(network.router.address().into())
            .tenant(tenant);
        let router = network.router.run(|| RouterProcess::start(setup)).unwrap();
        let client = TlsClient::trusting(&authority).unwrap();
        Some(Self { mode: mode.to_owned(), network, router, client, _backend: backend })
    }

    /// Whoever holds the connections.
    fn process(&self) -> Pid {
        match &*self.mode {
            "Terminate" => self.router.terminator_pid("acme").unwrap(),
            _ => self.router.router_pid().unwrap(),
        }
    }

    fn assert_each_below(&self, bound: u64, connections: usize, work: impl Fn(&mut Vec<Client>)) {
        // Whatever is made once is there before.
        let mut first = self.open(FIRST);
        work(&mut first);
        self.assert_path(FIRST);
        let before = proportional_set_size(self.process()).unwrap();
        let mut clients = self.open(connections);
        work(&mut clients);
        self.assert_path(FIRST + connections);
        let after = proportional_set_size(self.process()).unwrap();
        let each = after.saturating_sub(before) / connections as u64;
        println!("{}: {each} bytes for each of {connections} connections", self.mode);
        assert!(each < bound, "{}: {each} bytes for each connection, and {bound} are stated", self.mode);
        drop(first);
    }

    /// Relayed connections are counted when they end, so only what is carried can be told from it now.
    fn assert_path(&self, connections: usize) {
        if self.mode == "CutThrough" {
            let carried = || {
                let metrics = self.network.router.run(|| self.router.metrics()).ok()?;
                let all = metrics.sum("sni_router_data_path_total", &[("path", "cut_through")]) == connections as f64;
                (all && metrics.sum("sni_router_cut_through_opening", &[]) == 0.0).then_some(())
            };
            eventually(PATIENCE, "the kernel carries all of them", carried).unwrap();
        }
    }

    /// Each has got its first answer.
    fn open(&self, connections: usize) -> Vec<Client> {
        let hello = Hello::named(NAME).records();
        let address: SocketAddr = self.router.address();
        let one = |_| match &*self.mode {
            "Terminate" => {
                let mut stream = self.client.connect(address, NAME)?;
                stream.write_all(b"ping")?;
                stream.flush()?;
                stream.read_exact(&mut [0; 1])?;
                Ok(Client::Tls(Box::new(stream)))
            }
            _ => {
                let mut stream = tests::tls_client::tcp(address)?;
                stream.write_all(&hello)?;
                stream.read_exact(&mut [0; 1])?;
                Ok(Client::Plain(stream))
            }
        };
        self.network.client.run(|| (0..connections).map(one).collect()).unwrap()
    }
}

impl Client {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn send_what_fits(&mut self) -> usize {
        let bytes = [b'x'; 16 * 1024];
        let mut sent = 0;
        loop {
            let written = match self {
                Self::Plain(stream) => stream.write(&bytes),
                Self::Tls(stream) => stream.write(&bytes).and_then(|written| stream.flush().map(|()| written)),
            };
            match written {
                Ok(written) if written > 0 => sent += written,
                Ok(_) => return sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
                Err(error) => panic!("a connection failed: {error}"),
            }
        }
    }
}

const NAME: &str = "acme.test";
const FIRST: usize = 100;
const IDLE: usize = 2_000;
const STALLED: usize = 200;
