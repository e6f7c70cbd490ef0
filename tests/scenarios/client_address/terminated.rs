//! The same of tenants whose TLS ends here: the terminator gets the socket with the connection, and has no right to others.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use tests::authority::{Authority, KeyKind};
use tests::fakes::Server;
use tests::patience::{PATIENCE, eventually};
use tests::processes::status;
use tests::setup::Tenant;
use tests::tls_client::TlsClient;

use super::{CHECK, Site};

#[test]
fn backends_of_a_terminator_see_the_client() {
    let Some(scene) = Scene::new() else { return };
    for (address, client) in scene.site.families() {
        // Without a way back nobody is connected, and no backend is blamed.
        assert!(scene.seen(address, EACH).is_err());
        scene.expect_outcome("client_address_failed", if client.is_ipv4() { 1.0 } else { 2.0 });
        scene.site.route_all_answers(address);
        for _ in 0..5 {
            assert_eq!(scene.seen(address, EACH).unwrap().ip(), client);
        }
    }
    assert_eq!(scene.site.metrics().sum("sni_router_backend_up", &[("tenant", "each")]), 2.0);
    let terminator = status(scene.site.router.terminator_pid("each").unwrap()).unwrap();
    assert_eq!((terminator.capabilities("CapEff").unwrap(), terminator.capabilities("CapPrm").unwrap()), (0, 0));
}

#[test]
fn a_backend_that_refuses_is_followed_by_the_next_over_the_same_socket() {
    let Some(scene) = Scene::new() else { return };
    for (address, client) in scene.site.families() {
        scene.site.route_all_answers(address);
        for _ in 0..6 {
            assert_eq!(scene.seen(address, REFUSED_FIRST).unwrap().ip(), client);
        }
    }
}

#[test]
fn a_terminator_knows_no_backend_of_the_other_family() {
    let Some(scene) = Scene::new() else { return };
    let [_, (v6, _)] = scene.site.families();
    scene.site.route_all_answers(v6);
    assert!(scene.seen(v6, FOUR_ONLY).is_err());
    scene.expect_outcome("client_address_family", 1.0);
}

/// Tenants of mode Terminate beside those of the site.
struct Scene {
    site: Site,
    client: TlsClient,
    _backends: [Server; 2],
}

impl Scene {
    fn new() -> Option<Self> {
        let authority = Authority::new("client address CA").unwrap();
        let mut backends = None;
        let site = Site::with("clientAddress of mode Terminate", "Copy", |network, setup| {
            let place = &network.backend;
            let start = |address: IpAddr| place.run(|| Server::start_on((address, 0).into(), tell_who)).unwrap();
            let started = [start(place.address().into()), start(place.address_ipv6().into())];
            let [four, six] = [started[0].address(), started[1].address()];
            backends = Some(started);
            // Nobody listens there.
            let refusing = |address: IpAddr| SocketAddr::from((address, 1));
            let tenant = |name: &str, host: &str, backend| {
                let certificate = authority.server(&[host], KeyKind::Ecdsa).unwrap();
                let tenant = Tenant::terminate(name, &[host], backend, &certificate).line("connectTimeout: 300ms");
                tenant.line("clientAddress: Transparent").line("balance: RoundRobin")
            };
            let patient = |tenant: Tenant| tenant.line("healthCheck: { interval: 1h, unhealthyAfter: 1000 }");
            let refused_first = tenant("refused", REFUSED_FIRST, refusing(four.ip())).backend(refusing(six.ip()), 1);
            setup
                .tenant(tenant("each", EACH, four).backend(six, 1).line(CHECK))
                .tenant(patient(refused_first.backend(four, 1).backend(six, 1)))
                .tenant(tenant("four-only", FOUR_ONLY, four).line(CHECK))
        })?;
        Some(Self { site, client: TlsClient::trusting(&authority).unwrap(), _backends: backends? })
    }

    /// Whom the backend saw.
    fn seen(&self, address: SocketAddr, name: &str) -> anyhow::Result<SocketAddr> {
        self.site.network.client.run(|| {
            let mut stream = self.client.connect(address, name)?;
            stream.write_all(b"who?")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer.parse()?)
        })
    }

    fn expect_outcome(&self, outcome: &str, value: f64) {
        let labels = [("outcome", outcome)];
        let counted = || self.site.metrics().sum("sni_terminator_connections_total", &labels) == value;
        eventually(PATIENCE, outcome, || counted().then_some(())).unwrap();
    }
}

/// Answers a question with the address that it came from.
fn tell_who(mut stream: TcpStream) -> io::Result<()> {
    stream.read_exact(&mut [0; 4])?;
    let peer = stream.peer_addr()?;
    write!(stream, "{}", SocketAddr::new(peer.ip().to_canonical(), peer.port()))
}

const EACH: &str = "each.terminated.test";
const REFUSED_FIRST: &str = "refused.terminated.test";
const FOUR_ONLY: &str = "four.terminated.test";
