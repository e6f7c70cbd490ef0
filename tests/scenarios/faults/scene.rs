//! Client, router and backend on three hosts, and a healthy tenant of each mode on the router's own host.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Result, ensure};
use tests::authority::{Authority, KeyKind};
use tests::client_tools::require_root;
use tests::fakes::{Echo, Server};
use tests::hello::Hello;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::{TlsClient, TlsStream, tcp};

/// How the bytes move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Copy,
    Splice,
    CutThrough,
    Terminate,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Copy, Self::Splice, Self::CutThrough, Self::Terminate];

    /// The metric and tenant under which the ends of connections to the backend with the fault are counted.
    fn counted(self) -> &'static str {
        match self {
            Self::Terminate => "sni_terminator_connections_total",
            _ => "sni_router_connections_total",
        }
    }
}

pub(super) struct Scene {
    pub(super) way: Way,
    pub(super) network: Network,
    pub(super) router: RouterProcess,
    client: TlsClient,
    _healthy: Echo,
}

impl Scene {
    /// The tenant with the fault has this backend and these lines. `None` without root, which CI does not allow.
    pub(super) fn start(way: Way, lines: &str, backend: impl FnOnce(&Network) -> SocketAddr) -> Option<Self> {
        if !require_root("faults on three hosts").unwrap() {
            return None;
        }
        let network = Network::isolated().unwrap();
        // For cut-through.
        network.router.set("ipv4/ip_local_port_range", "32768 60999").unwrap();
        network.router.set("ipv4/ip_forward", "0").unwrap();
        let authority = Authority::new("scenario CA").unwrap();
        let certificate = |name| authority.server(&[name], KeyKind::Ecdsa).unwrap();
        let data_path = match way {
            Way::Terminate | Way::Copy => "Copy",
            Way::Splice => "Splice",
            Way::CutThrough => "CutThrough",
        };
        let at = backend(&network);
        let faulty = match way {
            Way::Terminate => Tenant::terminate("faulty", &[FAULTY], at, &certificate(FAULTY)),
            _ => Tenant::passthrough("faulty", &[FAULTY], at),
        };
        let faulty = if lines.is_empty() { faulty } else { faulty.line(lines) };
        let (router, healthy) = network
            .router
            .run(|| {
                let echo = Echo::start()?;
                let setup = Setup::new()
                    .line(&format!("dataPath: {data_path}"))
                    .listener_address(network.router.address().into())
                    .tenant(faulty)
                    .tenant(Tenant::passthrough("passing", &[PASSING], echo.address()))
                    .tenant(Tenant::terminate("ending", &[ENDING], echo.address(), &certificate(ENDING)));
                Ok((RouterProcess::start(setup)?, echo))
            })
            .unwrap();
        let client = TlsClient::trusting(&authority).unwrap();
        Some(Self { way, network, router, client, _healthy: healthy })
    }

    /// A connection to the tenant with the fault. What passes through begins with a hello that the backend gets.
    pub(super) fn connect(&self) -> Result<Connection> {
        self.network.client.run(|| match self.way {
            Way::Terminate => Ok(Connection::Tls(Box::new(self.client.connect(self.router.address(), FAULTY)?))),
            _ => {
                let mut stream = tcp(self.router.address())?;
                stream.write_all(&Hello::named(FAULTY).records())?;
                Ok(Connection::Plain(stream))
            }
        })
    }

    /// The other tenants are served, without a wait.
    pub(super) fn assert_others_served(&self) {
        self.network
            .client
            .run(|| {
                let mut passing = tcp(self.router.address())?;
                let hello = Hello::named(PASSING).records();
                passing.write_all(&hello)?;
                let mut echo = vec![0; hello.len()];
                passing.read_exact(&mut echo)?;
                ensure!(echo == hello);
                let mut ending = self.client.connect(self.router.address(), ENDING)?;
                ending.write_all(b"ping")?;
                ending.flush()?;
                ending.read_exact(&mut [0; 4])?;
                Ok(())
            })
            .unwrap();
    }

    /// So many connections of the tenant with the fault have ended so.
    pub(super) fn assert_counted(&self, outcome: &str, count: u32) {
        let labels = [("tenant", "faulty"), ("outcome", outcome)];
        let wait = || self.router.wait_for_metric(self.way.counted(), &labels, f64::from(count));
        self.network.router.run(wait).unwrap();
    }

    /// As many of its connections as this went the way that this is about; relayed ones are counted when they end.
    pub(super) fn assert_path(&self, count: u32) {
        let path = match self.way {
            Way::Copy => "copy",
            Way::Splice => "splice",
            Way::CutThrough => "cut_through",
            Way::Terminate => return,
        };
        let counted = || {
            let metrics = self.network.router.run(|| self.router.metrics()).ok()?;
            (metrics.sum("sni_router_data_path_total", &[("path", path)]) >= f64::from(count)).then_some(())
        };
        eventually(PATIENCE, &format!("{count} connections by {path}"), counted).unwrap();
    }
}

/// On the backend's host, with this behaviour.
pub(super) fn backend(
    network: &Network,
    serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Server {
    network.backend.run(|| Server::start_on(network.backend.free_address()?, serve)).unwrap()
}

/// A client's end.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Connection {
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Reads until the end, which is an orderly one (`Ok`) or not.
    pub(super) fn end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map(|_| bytes)
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

const FAULTY: &str = "faulty.test";
const PASSING: &str = "passing.test";
const ENDING: &str = "ending.test";
