//! Client, router and backend on three hosts; the tenant's backend does what the first byte behind the hello asks for.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;
use tests::client_tools::require_root;
use tests::fakes::Server;
use tests::hello::Hello;
use tests::metrics::Metrics;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::pattern::Pattern;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

/// What a connection does after the hello; the client tells the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Both send at the same time, then both end.
    Together = 1,
    /// The client sends and ends, then the backend does.
    ClientFirst = 2,
    /// The backend sends and ends, then the client does.
    BackendFirst = 3,
    /// The client resets when it has got the backend's bytes; the backend waits for that.
    ClientResets = 4,
    /// The backend resets when it has got the client's bytes; the client waits for that.
    BackendResets = 5,
    /// Like `Together`, but each end reads nothing until all that fits into buffers and windows is full.
    BothStall = 6,
}

/// One connection's plan, which is sent as its first bytes behind the hello.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) turn: Turn,
    pub(super) client_to_backend: u64,
    pub(super) backend_to_client: u64,
}

pub(super) struct Site {
    pub(super) network: Network,
    pub(super) router: RouterProcess,
    pub(super) served: Arc<AtomicU64>,
    pub(super) failures: Arc<std::sync::Mutex<Vec<String>>>,
    backends: [Server; 2],
}

impl Site {
    /// `None` without root, which CI does not allow.
    pub(super) fn new(scenario: &str, data_path: &str) -> Option<Self> {
        Self::with(scenario, |setup| setup.line(&format!("dataPath: {data_path}")), |_| ())
    }

    /// The same, with more lines of configuration and a network to be prepared.
    pub(super) fn with(
        scenario: &str,
        setup: impl FnOnce(Setup) -> Setup,
        prepare: impl FnOnce(&Network),
    ) -> Option<Self> {
        Self::started_by(scenario, setup, prepare, RouterProcess::start)
    }

    /// The same, with more lines for both tenants.
    pub(super) fn with_tenants(
        scenario: &str,
        setup: impl FnOnce(Setup) -> Setup,
        tenant: impl Fn(Tenant) -> Tenant,
    ) -> Option<Self> {
        if !require_root(scenario).unwrap() {
            return None;
        }
        Some(Self::built(network(), setup, tenant, RouterProcess::start))
    }

    /// With a router that is started in another way.
    pub(super) fn started_by(
        scenario: &str,
        setup: impl FnOnce(Setup) -> Setup,
        prepare: impl FnOnce(&Network),
        start: impl FnOnce(Setup) -> Result<RouterProcess> + Send,
    ) -> Option<Self> {
        if !require_root(scenario).unwrap() {
            return None;
        }
        let network = network();
        prepare(&network);
        Some(Self::on(network, setup, start))
    }

    /// On a network of the scenario's own.
    pub(super) fn on(
        network: Network,
        setup: impl FnOnce(Setup) -> Setup,
        start: impl FnOnce(Setup) -> Result<RouterProcess> + Send,
    ) -> Self {
        Self::built(network, setup, |tenant| tenant, start)
    }

    fn built(
        network: Network,
        setup: impl FnOnce(Setup) -> Setup,
        tenant: impl Fn(Tenant) -> Tenant,
        start: impl FnOnce(Setup) -> Result<RouterProcess> + Send,
    ) -> Self {
        let served = Arc::new(AtomicU64::new(0));
        let failures: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
        let backends =
            [IpAddr::from(network.backend.address()), network.backend.address_ipv6().into()].map(|address| {
                let (served, failures) = (Arc::clone(&served), Arc::clone(&failures));
                let serve = move |stream| {
                    match backend(&stream) {
                        Ok(()) => {
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => failures.lock().unwrap().push(format!("backend: {error}")),
                    }
                    Ok(())
                };
                network.backend.run(|| Server::start_on((address, 0).into(), serve)).unwrap()
            });
        let base = Setup::new()
            .listener_address(std::net::Ipv6Addr::UNSPECIFIED.into())
            .line("accessLog: { path: \"-\", format: Json }")
            .tenant(tenant(Tenant::passthrough("four", &[NAME], backends[0].address())))
            .tenant(tenant(Tenant::passthrough("six", &[NAME_IPV6], backends[1].address())));
        let setup = setup(base);
        let router = network.router.run(|| start(setup)).unwrap();
        Self { network, router, served, failures, backends }
    }

    fn tail_of_log(&self) -> String {
        let lines = self.router.log().with(&["cut_through"]);
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub(super) fn address(&self) -> SocketAddr {
        (self.network.router.address(), self.router.address().port()).into()
    }

    pub(super) fn address_ipv6(&self) -> SocketAddr {
        (self.network.router.address_ipv6(), self.router.address().port()).into()
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.network.router.run(|| self.router.metrics()).unwrap()
    }

    pub(super) fn at_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.network.client.run(|| Ok(work())).unwrap()
    }

    /// Connections that both backends have accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.backends.iter().map(Server::accepted).sum()
    }

    /// Waits until the kernel carries so many connections, alone.
    pub(super) fn wait_until_carried(&self, connections: u64) {
        eventually(PATIENCE, "the kernel carries the connections", || {
            let metrics = self.metrics();
            let carried = metrics.sum(PATHS, &[("path", "cut_through")]) == connections as f64;
            (carried && metrics.sum("sni_router_cut_through_opening", &[]) == 0.0).then_some(())
        })
        .unwrap();
    }

    /// Both ends of the one connection that the backend has, its own first; call it in the backend's place.
    pub(super) fn only_connection_of_the_backend(&self) -> Result<(SocketAddr, SocketAddr)> {
        let backend = self.backends[0].address();
        let is_it = |connection: &Connection| connection.is_established && connection.local == backend;
        let connection = connections()?.into_iter().find(is_it);
        connection.map(|connection| (connection.local, connection.remote)).context("the backend has no connection")
    }

    /// Connections that took this path, and no other.
    pub(super) fn assert_path(&self, path: &str, connections: u64) {
        let metrics = eventually(PATIENCE, "all connections are counted", || {
            let metrics = self.metrics();
            (metrics.sum(PATHS, &[]) >= connections as f64).then_some(metrics)
        })
        .unwrap();
        let page = self.network.router.run(|| self.router.admin_get("/metrics")).unwrap().body;
        let log = self.tail_of_log();
        assert_eq!(metrics.sum(PATHS, &[("path", path)]), connections as f64, "{page}\n{log}");
        assert_eq!(metrics.sum(PATHS, &[]), connections as f64, "{page}");
        if path == "cut_through" {
            let forwarded = [("program", "cut_through"), ("verdict", "forwarded")];
            assert!(metrics.sum(VERDICTS, &forwarded) >= connections as f64 * 3.0, "{page}");
        }
    }

    /// Runs the plans over so many connections at a time and expects every byte of each.
    pub(super) fn run(&self, to: SocketAddr, name: &str, at_a_time: usize, plans: impl Iterator<Item = Plan> + Send) {
        let before = self.served.load(Ordering::Relaxed);
        let plans = std::sync::Mutex::new(plans);
        let count = AtomicU64::new(0);
        self.at_client(|| {
            thread::scope(|scope| {
                for _ in 0..at_a_time {
                    scope.spawn(|| {
                        loop {
                            let Some(plan) = plans.lock().unwrap().next() else { break };
                            count.fetch_add(1, Ordering::Relaxed);
                            if let Err(error) = client(to, name, plan) {
                                self.failures.lock().unwrap().push(format!("client {plan:?}: {error}"));
                            }
                        }
                    });
                }
            });
        });
        let count = count.load(Ordering::Relaxed);
        let done = eventually(PATIENCE, "the backend has served all connections", || {
            (self.served.load(Ordering::Relaxed) - before == count).then_some(())
        });
        let failures = self.failures.lock().unwrap();
        let some = &failures[..failures.len().min(10)];
        assert!(failures.is_empty(), "{} of {count}: {some:#?}\n{}", failures.len(), self.tail_of_log());
        done.unwrap();
    }
}

/// The open ends of connections that have sent this hello and nothing else; their reads end with an error in time.
pub(super) fn open(to: SocketAddr, hello: &[u8], connections: usize) -> io::Result<Vec<TcpStream>> {
    let connect = |_| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        limit(&stream)?;
        stream.write_all(hello)?;
        Ok(stream)
    };
    (0..connections).map(connect).collect()
}

/// A line of /proc/net/tcp (proc_net_tcp.rst).
pub(super) struct Connection {
    pub(super) local: SocketAddr,
    remote: SocketAddr,
    is_established: bool,
    /// Bytes that the peer has not acknowledged; a FIN counts as one.
    pub(super) unacknowledged: u64,
}

/// The IPv4 connections of the place of the calling thread, in any state.
pub(super) fn connections() -> Result<Vec<Connection>> {
    let text = fs::read_to_string("/proc/thread-self/net/tcp").context("read the table of connections")?;
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (table_address(fields.next()?)?, table_address(fields.next()?)?);
        let is_established = fields.next()? == "01";
        let (queue, _) = fields.next()?.split_once(':')?;
        let unacknowledged = u64::from_str_radix(queue, 16).ok()?;
        Some(Connection { local, remote, is_established, unacknowledged })
    };
    Ok(text.lines().skip(1).filter_map(line).collect())
}

/// Such as `0202000A:01BB`: the address as a word in the byte order of this machine, the port as a number.
fn table_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    Some((address, u16::from_str_radix(port, 16).ok()?).into())
}

/// Three hosts whose router leaves ports for cut-through.
pub(super) fn network() -> Network {
    let network = Network::isolated().unwrap();
    leave_ports(&network);
    network
}

/// For cut-through.
pub(super) fn leave_ports(network: &Network) {
    network.router.set("ipv4/ip_local_port_range", "32768 60999").unwrap();
    // Cut-through does not need it, and a packet that it lets through must not find its way.
    network.router.set("ipv4/ip_forward", "0").unwrap();
    network.router.set("ipv6/conf/all/forwarding", "0").unwrap();
}

/// The client's end of a plan.
pub(super) fn client(to: SocketAddr, name: &str, plan: Plan) -> io::Result<()> {
    client_with_pause(to, name, plan, || ())
}

/// The same, with something to do between the plan and what it says.
pub(super) fn client_with_pause(to: SocketAddr, name: &str, plan: Plan, pause: impl FnOnce()) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    limit(&stream)?;
    stream.set_nodelay(true)?;
    stream.write_all(&Hello::named(name).records())?;
    stream.write_all(&plan.encode())?;
    pause();
    client_after_hello(&stream, plan)
}

/// The rest of it.
pub(super) fn client_after_hello(stream: &TcpStream, plan: Plan) -> io::Result<()> {
    let (up, down) = plan.patterns();
    let send = || up.send(&mut &*stream, plan.client_to_backend).and_then(|()| stream.shutdown(Shutdown::Write));
    let receive = || down.receive(&mut &*stream, plan.backend_to_client);
    match plan.turn {
        Turn::Together | Turn::BothStall => together(stream, plan.turn, send, receive),
        Turn::ClientFirst => send().and_then(|()| receive()).and_then(|()| expect_end(stream)),
        Turn::BackendFirst => receive().and_then(|()| expect_end(stream)).and_then(|()| send()),
        Turn::ClientResets => {
            up.send(&mut &*stream, plan.client_to_backend)?;
            receive()?;
            SockRef::from(stream).set_linger(Some(Duration::ZERO))
        }
        Turn::BackendResets => {
            up.send(&mut &*stream, plan.client_to_backend)?;
            expect_reset(stream)
        }
    }
}

fn backend(stream: &TcpStream) -> io::Result<()> {
    limit(stream)?;
    let mut header = [0; 5];
    (&*stream).read_exact(&mut header)?;
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    (&*stream).read_exact(&mut hello)?;
    let mut plan = [0; PLAN];
    (&*stream).read_exact(&mut plan)?;
    let plan = Plan::decode(&plan)?;
    let (up, down) = plan.patterns();
    let send = || down.send(&mut &*stream, plan.backend_to_client).and_then(|()| stream.shutdown(Shutdown::Write));
    let receive = || up.receive(&mut &*stream, plan.client_to_backend);
    let result = match plan.turn {
        Turn::Together | Turn::BothStall => together(stream, plan.turn, send, receive),
        Turn::ClientFirst => receive().and_then(|()| expect_end(stream)).and_then(|()| send()),
        Turn::BackendFirst => send().and_then(|()| receive()).and_then(|()| expect_end(stream)),
        Turn::ClientResets => {
            receive()?;
            down.send(&mut &*stream, plan.backend_to_client)?;
            expect_reset(stream)
        }
        Turn::BackendResets => {
            receive()?;
            SockRef::from(stream).set_linger(Some(Duration::ZERO))
        }
    };
    result.map_err(|error| io::Error::new(error.kind(), format!("{plan:?}: {error}")))
}

fn together(
    stream: &TcpStream,
    turn: Turn,
    send: impl FnOnce() -> io::Result<()> + Send,
    receive: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    thread::scope(|scope| {
        let sending = scope.spawn(send);
        if turn == Turn::BothStall {
            // The stall is what is tested: longer than several persist timer probes of the sender.
            thread::sleep(STALL);
        }
        receive()?;
        expect_end(stream)?;
        sending.join().unwrap()
    })
}

fn expect_end(mut stream: &TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 1])? {
        0 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "bytes behind the end")),
    }
}

pub(super) fn expect_reset(mut stream: &TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 1]) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        other => Err(io::Error::other(format!("expected a reset: {other:?}"))),
    }
}

fn limit(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

impl Plan {
    fn patterns(&self) -> (Pattern, Pattern) {
        (Pattern::new(self.number * 2), Pattern::new(self.number * 2 + 1))
    }

    /// Sends the client's bytes.
    pub(super) fn send_as_client(self, mut stream: &TcpStream) -> io::Result<()> {
        self.patterns().0.send(&mut stream, self.client_to_backend)
    }

    /// What follows them where the client is first.
    pub(super) fn finish_as_client(self, mut stream: &TcpStream) -> io::Result<()> {
        stream.shutdown(Shutdown::Write)?;
        self.patterns().1.receive(&mut stream, self.backend_to_client)?;
        expect_end(stream)
    }

    pub(super) fn encode(&self) -> [u8; PLAN] {
        let mut bytes = [0; PLAN];
        bytes[0] = self.turn as u8;
        for (place, number) in [self.number, self.client_to_backend, self.backend_to_client].iter().enumerate() {
            bytes[1 + place * 8..9 + place * 8].copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; PLAN]) -> io::Result<Self> {
        let turns = [
            Turn::Together,
            Turn::ClientFirst,
            Turn::BackendFirst,
            Turn::ClientResets,
            Turn::BackendResets,
            Turn::BothStall,
        ];
        let turn = turns.into_iter().find(|turn| *turn as u8 == bytes[0]);
        let number = |place: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[1 + place * 8..9 + place * 8]);
            u64::from_be_bytes(number)
        };
        Ok(Self {
            turn: turn.ok_or(io::Error::other(format!("no plan: {bytes:?}")))?,
            number: number(0),
            client_to_backend: number(1),
            backend_to_client: number(2),
        })
    }
}

pub(super) const NAME: &str = "four.test";
pub(super) const NAME_IPV6: &str = "six.test";
pub(super) const PATHS: &str = "sni_router_data_path_total";
pub(super) const VERDICTS: &str = "sni_router_ebpf_verdicts_total";
pub(super) const FALLBACKS: &str = "sni_router_data_path_fallback_total";
const PLAN: usize = 25;
const STALL: Duration = Duration::from_secs(5);
