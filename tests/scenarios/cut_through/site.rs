//! Client, router and backend on three hosts; the tenants' backends follow the plan behind the hello.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use tests::client_tools::require_root;
use tests::fakes::Server;
use tests::metrics::Metrics;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

use super::plan::{Plan, backend, client, limit};

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

    /// Connections that took this path, and no other. Of a thousand, some may have been overtaken by their own bytes, when
    /// a thread of the client moved to another processor between its hello and what follows.
    pub(super) fn assert_path(&self, path: &str, connections: u64) {
        let metrics = eventually(PATIENCE, "all connections are counted", || {
            let metrics = self.metrics();
            (metrics.sum(PATHS, &[]) >= connections as f64).then_some(metrics)
        })
        .unwrap();
        let page = self.network.router.run(|| self.router.admin_get("/metrics")).unwrap().body;
        let log = self.tail_of_log();
        let overtaken = metrics.sum(FALLBACKS, &[("reason", "early_data")]);
        assert!(overtaken <= connections as f64 / 200.0, "{page}\n{log}");
        assert_eq!(metrics.sum(PATHS, &[("path", path)]), connections as f64 - overtaken, "{page}\n{log}");
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
        assert!(
            failures.is_empty(),
            "{} of {count}: {some:#?}\n{}\n{}",
            failures.len(),
            self.lines_of_failures(),
            self.tail_of_log()
        );
        done.unwrap();
    }

    /// Of the access log.
    fn lines_of_failures(&self) -> String {
        let text = self.router.stdout().unwrap_or_default();
        text.lines().filter(|line| !line.contains("\"outcome\":\"ok\"")).collect::<Vec<_>>().join("\n")
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

pub(super) const NAME: &str = "four.test";
pub(super) const NAME_IPV6: &str = "six.test";
pub(super) const PATHS: &str = "sni_router_data_path_total";
pub(super) const VERDICTS: &str = "sni_router_ebpf_verdicts_total";
pub(super) const FALLBACKS: &str = "sni_router_data_path_fallback_total";
