//! Which tenant a name leads to, and what differs between listeners.

use tests::fakes::Recorder;
use tests::hello::Hello;
use tests::raw_client::RawClient;
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

#[test]
fn an_exact_name_beats_the_wildcard() {
    let backends = Backends::start();
    let router = RouterProcess::start(backends.setup()).unwrap();
    assert_eq!(backends.reached(&router, "tls", "api.acme.test"), Some("exact"));
    assert_eq!(backends.reached(&router, "tls", "www.acme.test"), Some("wildcard"));
}

#[test]
fn the_longest_wildcard_wins_and_covers_exactly_one_label() {
    let backends = Backends::start();
    let router = RouterProcess::start(backends.setup()).unwrap();
    assert_eq!(backends.reached(&router, "tls", "a.deep.acme.test"), Some("deep"));
    assert_eq!(backends.reached(&router, "tls", "deep.acme.test"), Some("wildcard"));
    assert_eq!(backends.reached(&router, "tls", "a.b.deep.acme.test"), None);
    assert_eq!(backends.reached(&router, "tls", "acme.test"), None);
}

#[test]
fn case_and_a_trailing_dot_make_no_difference() {
    let backends = Backends::start();
    let router = RouterProcess::start(backends.setup()).unwrap();
    assert_eq!(backends.reached(&router, "tls", "API.Acme.TEST"), Some("exact"));
    assert_eq!(backends.reached(&router, "tls", "api.acme.test."), Some("exact"));
}

#[test]
fn each_listener_has_its_own_answer_to_strangers() {
    let backends = Backends::start();
    let setup = backends
        .setup()
        .listener("open")
        .listener_line("onUnmatched: wildcard")
        .listener_line("onNoServerName: exact")
        .listener("closed")
        .listener_line("clients: { deny: [\"127.0.0.0/8\"] }");
    let router = RouterProcess::start(setup).unwrap();
    assert_eq!(backends.reached(&router, "tls", "nobody.test"), None);
    assert_eq!(backends.reached(&router, "open", "nobody.test"), Some("wildcard"));
    assert_eq!(backends.reached(&router, "open", "api.acme.test"), Some("exact"));
    assert_eq!(backends.ask(&router, "open", &Hello::nameless()), Ok("exact"));
    assert_eq!(backends.ask(&router, "closed", &Hello::named("api.acme.test")), Err(Some(ACCESS_DENIED)));
    router.wait_for_metric("sni_router_connections_total", &[("outcome", "client_denied")], 1.0).unwrap();
}

#[test]
fn a_tenant_can_deny_clients_that_the_listener_admits() {
    let backend = Recorder::start().unwrap();
    let tenant = Tenant::passthrough("private", &["private.test"], backend.address())
        .line("clients: { allow: [\"10.0.0.0/8\"] }");
    let router = RouterProcess::start(Setup::new().tenant(tenant)).unwrap();
    let client = RawClient::connect(router.address()).unwrap();
    client.send(&Hello::named("private.test").records()).unwrap();
    assert_eq!(client.answer().alert(), Some(ACCESS_DENIED));
    assert_eq!(backend.accepted(), 0);
}

/// One passthrough tenant for each pattern.
struct Backends(Vec<(&'static str, &'static str, Recorder)>);

impl Backends {
    fn start() -> Self {
        let patterns = [("exact", "api.acme.test"), ("wildcard", "*.acme.test"), ("deep", "*.deep.acme.test")];
        Self(patterns.map(|(name, pattern)| (name, pattern, Recorder::start().unwrap())).into())
    }

    fn setup(&self) -> Setup {
        self.0.iter().fold(Setup::new(), |setup, (name, pattern, backend)| {
            setup.tenant(Tenant::passthrough(name, &[pattern], backend.address()))
        })
    }

    /// The tenant whose backend got the connection; `None` for `unrecognized_name`.
    fn reached(&self, router: &RouterProcess, listener: &str, name: &str) -> Option<&'static str> {
        match self.ask(router, listener, &Hello::named(name)) {
            Ok(tenant) => Some(tenant),
            Err(alert) => {
                assert_eq!(alert, Some(UNRECOGNIZED_NAME), "{name}");
                None
            }
        }
    }

    fn ask(&self, router: &RouterProcess, listener: &str, hello: &Hello) -> Result<&'static str, Option<u8>> {
        let client = RawClient::connect(router.listener(listener).unwrap()).unwrap();
        let before: Vec<u64> = self.0.iter().map(|(_, _, backend)| backend.accepted()).collect();
        client.send(&hello.records()).unwrap();
        client.finish().unwrap();
        let answer = client.answer();
        let reached: Vec<_> =
            self.0.iter().zip(before).filter(|((_, _, backend), before)| backend.accepted() > *before).collect();
        match reached[..] {
            [] => Err(answer.alert()),
            [((name, _, backend), _)] => {
                assert_eq!(backend.recording().unwrap().bytes, hello.records());
                Ok(name)
            }
            _ => panic!("one connection reached several backends"),
        }
    }
}

/// RFC 8446 section 6.2.
const ACCESS_DENIED: u8 = 49;
/// RFC 6066 section 9.
const UNRECOGNIZED_NAME: u8 = 112;
