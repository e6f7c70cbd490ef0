//! Three hosts, of which the router has 10.99.0.0/16 and fd99::/64 for itself; its only tenant echoes.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};
use tests::client_tools::require_root;
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::metrics::Metrics;
use tests::network::Network;
use tests::patience::PATIENCE;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

pub(super) struct Site {
    pub(super) network: Network,
    pub(super) echo: Echo,
}

impl Site {
    /// `None` without root, which CI does not allow.
    pub(super) fn new(scenario: &str) -> Option<Self> {
        if !require_root(scenario).unwrap() {
            return None;
        }
        let network = Network::isolated().unwrap();
        network.router.ip("route add local 10.99.0.0/16 dev lo\nroute add local fd99::/64 dev lo").unwrap();
        let echo = network.router.run(Echo::start).unwrap();
        Some(Self { network, echo })
    }

    pub(super) fn start(&self, setup: Setup) -> RouterProcess {
        self.network.router.run(|| RouterProcess::start(setup)).unwrap()
    }

    pub(super) fn metrics(&self, router: &RouterProcess) -> Metrics {
        self.network.router.run(|| router.metrics()).unwrap()
    }

    pub(super) fn at_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.network.client.run(|| Ok(work())).unwrap()
    }
}

/// A listener for both families, and the tenant.
pub(super) fn setup(site: &Site) -> Setup {
    Setup::new().listener_address(Ipv6Addr::UNSPECIFIED.into()).tenant(Tenant::passthrough(
        "echo",
        &[NAME],
        site.echo.address(),
    ))
}

/// What became of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Greeting {
    /// The backend sent everything back.
    Echoed,
    /// The SYN was answered with a RST.
    Refused,
    /// Something else.
    Failed(ErrorKind),
}

/// Connects and greets the tenant.
pub(super) fn greet(address: SocketAddr) -> Greeting {
    greet_through(TcpStream::connect_timeout(&address, PATIENCE), || ())
}

/// The same, from this source address.
pub(super) fn greet_from(source: IpAddr, address: SocketAddr) -> Greeting {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    greet_through(socket.connect_timeout(&address.into(), PATIENCE).map(|()| socket.into()), || ())
}

/// The same, with something to do between the handshake and the first byte.
pub(super) fn greet_slowly(address: SocketAddr, pause: impl FnOnce()) -> Greeting {
    greet_through(TcpStream::connect_timeout(&address, PATIENCE), pause)
}

fn greet_through(connected: std::io::Result<TcpStream>, pause: impl FnOnce()) -> Greeting {
    let exchange = || {
        let mut stream = connected?;
        stream.set_read_timeout(Some(PATIENCE))?;
        pause();
        let hello = Hello::named(NAME).records();
        stream.write_all(&hello)?;
        let mut echo = vec![0; hello.len()];
        stream.read_exact(&mut echo)?;
        Ok(if echo == hello { Greeting::Echoed } else { Greeting::Failed(ErrorKind::InvalidData) })
    };
    exchange().unwrap_or_else(|error: std::io::Error| match error.kind() {
        ErrorKind::ConnectionRefused => Greeting::Refused,
        kind => Greeting::Failed(kind),
    })
}

const NAME: &str = "echo.test";
