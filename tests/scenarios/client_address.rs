//! `clientAddress: Transparent`: backends see the client's own address, with the routing that docs/client-address.md
//! gives, on three hosts.

mod terminated;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};

use tests::client_tools::{Tool, require, require_root};
use tests::fakes::Server;
use tests::hello::Hello;
use tests::metrics::Metrics;
use tests::network::{Network, Place};
use tests::patience::{PATIENCE, eventually};
use tests::processes::status;
use tests::raw_client::{End, RawClient};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

#[test]
fn backends_see_the_client_with_a_rule_for_their_answers() {
    let Some(site) = Site::new("clientAddress: Transparent", "Copy") else { return };
    for (address, client) in site.families() {
        // Without a way back nobody is connected, and no backend is blamed.
        site.expect_alert(address);
        assert_eq!(site.outcome("client_address_failed"), if client.is_ipv4() { 1.0 } else { 2.0 });
        for (backend, _) in site.families() {
            site.route_answers_by_port(backend);
        }
        for _ in 0..5 {
            assert_eq!(site.seen(address).unwrap().ip(), client);
        }
        site.forget_routes();
    }
    let up = site.metrics();
    assert_eq!(up.sum("sni_router_backend_up", &[]), 4.0);
    // The one capability that it takes (include/uapi/linux/capability.h, CAP_NET_RAW).
    let router = status(site.router.router_pid().unwrap()).unwrap();
    assert_eq!(router.capabilities("CapEff").unwrap(), 1 << 13);
    assert_eq!(router.capabilities("CapPrm").unwrap(), 1 << 13);
}

#[test]
fn backends_see_the_client_with_a_mark_for_their_answers() {
    if require(Tool::Nft, "the mark of answers").unwrap().is_none() {
        return;
    }
    let Some(site) = Site::new("the mark of answers", "Copy") else { return };
    site.network.router.command("nft", &[MARK]).unwrap();
    for family in ["-4", "-6"] {
        site.ip(&[family, "rule", "add", "fwmark", "1", "lookup", TABLE]);
        site.ip(&[family, "route", "add", "local", "default", "dev", "lo", "table", TABLE]);
    }
    for (address, client) in site.families() {
        assert_eq!(site.seen(address).unwrap().ip(), client);
    }
    // Who connects past the router is still let through to the backend.
    site.network.router.set("ipv4/ip_forward", "1").unwrap();
    let backend = site.backends[0].address();
    site.network.client.run(|| Ok(TcpStream::connect(backend)?)).unwrap();
}

#[test]
fn where_cut_through_runs_such_connections_are_relayed_and_counted() {
    let Some(site) = Site::new("clientAddress beside cut-through", "CutThrough") else { return };
    for (backend, _) in site.families() {
        site.route_answers_by_port(backend);
    }
    for (address, client) in site.families() {
        assert_eq!(site.seen(address).unwrap().ip(), client);
    }
    let reason = [("reason", "client_address")];
    assert_eq!(site.metrics().sum("sni_router_data_path_fallback_total", &reason), 2.0);
}

#[test]
fn a_backend_of_the_other_family_is_passed_over() {
    let Some(site) = Site::new("clientAddress and families", "Copy") else { return };
    for (backend, _) in site.families() {
        site.route_answers_by_port(backend);
    }
    let [(v4, client), (v6, _)] = site.families();
    for _ in 0..4 {
        assert_eq!(site.seen_by_name(v4, BOTH).unwrap().ip(), client);
    }
    let answer = site.answer(v6, FOUR);
    assert_eq!((answer.0, answer.1), (Some(INTERNAL_ERROR), End::Closed));
    eventually(PATIENCE, "it is counted", || (site.outcome("client_address_family") == 1.0).then_some(())).unwrap();
}

#[test]
fn a_client_that_a_trusted_sender_announces_is_whom_backends_see() {
    let senders = |site: &Network| {
        let prefixes = [IpAddr::from(site.client.address()), site.client.address_ipv6().into()];
        format!("proxyProtocol: {{ from: [\"{}/32\", \"{}/128\"] }}", prefixes[0], prefixes[1])
    };
    let Some(site) = Site::with("announced clients", "Copy", |network, setup| setup.listener_line(&senders(network)))
    else {
        return;
    };
    for (backend, _) in site.families() {
        site.route_answers_by_port(backend);
    }
    let [(v4, _), (v6, _)] = site.families();
    // None of them is on any of the three hosts.
    let announced: [(SocketAddr, &str, IpAddr); 2] =
        [(v4, FOUR, "10.0.1.77".parse().unwrap()), (v6, SIX, "fd00::177".parse().unwrap())];
    for (address, name, client) in announced {
        let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
        let header = format!("PROXY {family} {client} {} 40000 443\r\n", address.ip());
        let seen = (0..5).map(|_| site.seen_behind(address, name, header.as_bytes()).unwrap().ip());
        assert!(seen.clone().all(|seen| seen == client), "{:?}", seen.collect::<Vec<_>>());
    }
    // Announced with the other family than the backend's: no backend can see it.
    let header = format!("PROXY TCP6 fd00::177 {} 40000 443\r\n", v6.ip());
    assert!(site.seen_behind(v4, FOUR, header.as_bytes()).is_err());
    eventually(PATIENCE, "it is counted", || (site.outcome("client_address_family") == 1.0).then_some(())).unwrap();
}

/// What docs/client-address.md has: answers that belong to a socket with a client's address stay on this host.
const MARK: &str = "add table inet sni-router; \
    add chain inet sni-router prerouting { type filter hook prerouting priority mangle; }; \
    add rule inet sni-router prerouting meta l4proto tcp socket transparent 1 meta mark set 1";
const TABLE: &str = "100";
const FOUR: &str = "four.test";
const SIX: &str = "six.test";
const BOTH: &str = "both.test";
/// RFC 8446 section 6.2.
const INTERNAL_ERROR: u8 = 80;

struct Site {
    network: Network,
    router: RouterProcess,
    /// Of IPv4 and of IPv6.
    backends: [Server; 2],
}

impl Site {
    /// `None` without root, which CI does not allow.
    fn new(scenario: &str, data_path: &str) -> Option<Self> {
        Self::with(scenario, data_path, |_, setup| setup)
    }

    /// The same, with more lines of configuration.
    fn with(scenario: &str, data_path: &str, more: impl FnOnce(&Network, Setup) -> Setup) -> Option<Self> {
        if !require_root(scenario).unwrap() {
            return None;
        }
        let network = Network::isolated().unwrap();
        network.router.set("ipv4/ip_local_port_range", "32768 60999").unwrap();
        // What is not delivered here goes nowhere, so that no client answers what it knows nothing of.
        network.router.set("ipv4/ip_forward", "0").unwrap();
        network.router.set("ipv6/conf/all/forwarding", "0").unwrap();
        let start = |address: IpAddr| network.backend.run(|| Server::start_on((address, 0).into(), tell_who)).unwrap();
        let backends = [start(network.backend.address().into()), start(network.backend.address_ipv6().into())];
        let tenant = |name: &str, hostname: &str, backend: SocketAddr| {
            Tenant::passthrough(name, &[hostname], backend).line("clientAddress: Transparent")
        };
        let [four, six] = [backends[0].address(), backends[1].address()];
        let both = tenant("both", BOTH, four).backend(six, 1).line("balance: RoundRobin").line(CHECK);
        let base = Setup::new()
            .listener_address(Ipv6Addr::UNSPECIFIED.into())
            .line(&format!("dataPath: {data_path}"))
            .tenant(tenant("four", FOUR, four).line("connectTimeout: 300ms").line(CHECK))
            .tenant(tenant("six", SIX, six).line("connectTimeout: 300ms").line(CHECK))
            .tenant(both);
        let base = more(&network, base);
        let router = network.router.run(|| RouterProcess::start(base)).unwrap();
        Some(Self { network, router, backends })
    }

    /// Where the client connects to, and the address that it has.
    fn families(&self) -> [(SocketAddr, IpAddr); 2] {
        let port = self.router.address().port();
        let (router, client) = (&self.network.router, &self.network.client);
        [
            ((router.address(), port).into(), client.address().into()),
            ((router.address_ipv6(), port).into(), client.address_ipv6().into()),
        ]
    }

    /// The way without netfilter: what comes from the backends' port is for this host.
    fn route_answers_by_port(&self, family: SocketAddr) {
        let (option, backend) = if family.is_ipv4() { ("-4", 0) } else { ("-6", 1) };
        let port = self.backends[backend].address().port().to_string();
        let rule = ["rule", "add", "iif", "to-backend", "ipproto", "tcp", "sport", &port, "lookup", TABLE];
        self.ip(&[&[option], &rule[..]].concat());
        self.ip(&[option, "route", "add", "local", "default", "dev", "lo", "table", TABLE]);
    }

    /// The same for whatever backend.
    fn route_all_answers(&self, family: SocketAddr) {
        let option = if family.is_ipv4() { "-4" } else { "-6" };
        self.ip(&[option, "rule", "add", "iif", "to-backend", "ipproto", "tcp", "lookup", TABLE]);
        self.ip(&[option, "route", "add", "local", "default", "dev", "lo", "table", TABLE]);
    }

    fn forget_routes(&self) {
        for family in ["-4", "-6"] {
            self.ip(&[family, "rule", "del", "lookup", TABLE]);
            self.ip(&[family, "route", "flush", "table", TABLE]);
        }
    }

    fn ip(&self, arguments: &[&str]) {
        Place::command(&self.network.router, "ip", arguments).unwrap();
    }

    /// Whom the backend of this family saw.
    fn seen(&self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        self.seen_by_name(address, if address.is_ipv4() { FOUR } else { SIX })
    }

    fn seen_by_name(&self, address: SocketAddr, name: &str) -> anyhow::Result<SocketAddr> {
        self.seen_behind(address, name, &[])
    }

    /// The same, with a header ahead of the hello.
    fn seen_behind(&self, address: SocketAddr, name: &str, header: &[u8]) -> anyhow::Result<SocketAddr> {
        let hello = Hello::named(name).records();
        self.network.client.run(|| {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&[header, &hello].concat())?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            let (seen, rest) = answer.split_once(' ').unwrap_or_default();
            anyhow::ensure!(rest == hello.len().to_string(), "the hello has {} bytes: {answer:?}", hello.len());
            Ok(seen.parse()?)
        })
    }

    fn answer(&self, address: SocketAddr, name: &str) -> (Option<u8>, End) {
        let hello = Hello::named(name).records();
        let ask = || {
            let client = RawClient::connect(address)?;
            client.send(&hello)?;
            let answer = client.answer();
            Ok((answer.alert(), answer.end))
        };
        self.network.client.run(ask).unwrap()
    }

    fn expect_alert(&self, address: SocketAddr) {
        let answer = self.answer(address, if address.is_ipv4() { FOUR } else { SIX });
        assert_eq!(answer, (Some(INTERNAL_ERROR), End::Closed));
    }

    fn metrics(&self) -> Metrics {
        self.network.router.run(|| self.router.metrics()).unwrap()
    }

    fn outcome(&self, outcome: &str) -> f64 {
        self.metrics().sum("sni_router_connections_total", &[("outcome", outcome)])
    }
}

/// The health check has the router's own address, which is always answered; a single failure as a client would count.
const CHECK: &str = "healthCheck: { interval: 1h, timeout: 1s, unhealthyAfter: 1, healthyAfter: 1000 }";

/// Answers the end of what was sent with the address that it came from and its length.
fn tell_who(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let seen = SocketAddr::new(stream.peer_addr()?.ip().to_canonical(), stream.peer_addr()?.port());
    write!(stream, "{seen} {}", bytes.len())
}
