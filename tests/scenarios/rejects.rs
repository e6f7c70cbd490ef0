//! What is not routed gets an answer on the wire, a counter and one log line.

use std::time::{Duration, Instant};

use tests::hello::{Hello, records};
use tests::raw_client::{Answer, End, RawClient};
use tests::router_process::RouterProcess;

use crate::two_tenants::{PASSTHROUGH, TwoTenants};

#[test]
fn an_unknown_name_gets_unrecognized_name() {
    let reject = Reject::of(&Hello::named("nobody.test").records());
    assert_eq!(reject.answer.alert(), Some(UNRECOGNIZED_NAME));
    reject.assert_counted("ok", "unknown_name");
}

#[test]
fn no_name_gets_unrecognized_name() {
    let reject = Reject::of(&Hello::nameless().records());
    assert_eq!(reject.answer.alert(), Some(UNRECOGNIZED_NAME));
    reject.assert_counted("ok", "no_server_name");
}

#[test]
fn an_ip_address_as_name_gets_unrecognized_name() {
    let reject = Reject::of(&Hello::named("192.0.2.1").records());
    assert_eq!(reject.answer.alert(), Some(UNRECOGNIZED_NAME));
    reject.assert_counted("malformed", "invalid_name");
}

#[test]
fn an_empty_name_gets_decode_error() {
    let reject = Reject::of(&Hello::named("").records());
    assert_eq!(reject.answer.alert(), Some(DECODE_ERROR));
    reject.assert_counted("malformed", "invalid_name");
}

#[test]
fn a_name_with_nul_gets_decode_error() {
    let reject = Reject::of(&Hello::named("k8s.pinniped.test\0.evil.test").records());
    assert_eq!(reject.answer.alert(), Some(DECODE_ERROR));
    reject.assert_counted("malformed", "invalid_name");
}

#[test]
fn two_names_get_decode_error() {
    let reject = Reject::of(&Hello::named(PASSTHROUGH).and_named("api.acme.test").records());
    assert_eq!(reject.answer.alert(), Some(DECODE_ERROR));
    reject.assert_counted("malformed", "malformed");
}

#[test]
fn a_malformed_hello_gets_decode_error() {
    let mut message = Hello::named(PASSTHROUGH).handshake_message();
    // The length of the session id (RFC 8446 section 4.1.2), after type, length, version and random: 32 is the most.
    message[4 + 2 + 32] = 33;
    let reject = Reject::of(&records(&message, 16_384));
    assert_eq!(reject.answer.alert(), Some(DECODE_ERROR));
    reject.assert_counted("malformed", "malformed");
}

#[test]
fn plain_http_gets_a_400_that_a_person_can_read() {
    let reject = Reject::of(b"GET / HTTP/1.1\r\nHost: k8s.pinniped.test\r\n\r\n");
    let text = String::from_utf8(reject.answer.bytes.clone()).unwrap();
    assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
    assert!(text.contains("https://"), "{text}");
    reject.assert_counted("plain_http", "plain_http");
}

#[test]
fn ssh_is_closed_without_a_word() {
    let reject = Reject::of(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n");
    assert_eq!(reject.answer.bytes, b"");
    reject.assert_counted("not_tls", "not_tls");
}

#[test]
fn noise_is_closed_without_a_word() {
    let reject = Reject::of(&[0xff; 100]);
    assert_eq!(reject.answer.bytes, b"");
    reject.assert_counted("not_tls", "not_tls");
}

#[test]
fn a_hello_that_is_too_slow_gets_decode_error_at_the_deadline() {
    let hello = Hello::named(PASSTHROUGH).records();
    let start = Instant::now();
    let reject = Reject::of(&hello[..hello.len() - 1]);
    assert_eq!(reject.answer.alert(), Some(DECODE_ERROR));
    assert!(start.elapsed() >= HELLO_TIMEOUT, "{:?}", start.elapsed());
    reject.assert_counted("too_slow", "too_slow");
}

#[test]
fn a_client_that_says_nothing_is_closed_at_the_deadline() {
    let reject = Reject::of(b"");
    assert_eq!(reject.answer.end, End::Closed);
    reject.assert_counted("too_slow", "too_slow");
}

#[test]
fn a_hello_that_is_too_large_gets_decode_error_before_all_of_it_was_sent() {
    let hello = Hello::named(PASSTHROUGH).padded(MAX_HELLO_BYTES).records();
    let reject = Reject::of(&hello[..100]);
    assert_eq!(reject.answer.alert(), Some(DECODE_ERROR));
    reject.assert_counted("too_large", "too_large");
}

#[test]
fn a_client_that_leaves_is_counted_and_not_answered() {
    let rejected = Reject::router();
    let client = RawClient::connect(rejected.router.address()).unwrap();
    client.send(&Hello::named(PASSTHROUGH).records()[..50]).unwrap();
    client.finish().unwrap();
    let answer = client.answer();
    assert_eq!((answer.bytes.len(), answer.end), (0, End::Closed));
    Reject { answer, ..rejected }.assert_counted("client_closed", "client_closed");
}

#[test]
fn rejects_are_silent_at_the_default_log_level() {
    let tenants = TwoTenants::start();
    let router = RouterProcess::start(tenants.setup()).unwrap();
    let before = router.log().lines().len();
    for _ in 0..10 {
        let client = RawClient::connect(router.address()).unwrap();
        client.send(&Hello::named("nobody.test").records()).unwrap();
        assert_eq!(client.answer().alert(), Some(UNRECOGNIZED_NAME));
    }
    router.wait_for_metric("sni_router_connections_total", &[("outcome", "unknown_name")], 10.0).unwrap();
    assert_eq!(router.log().lines()[before..], [] as [&str; 0]);
}

/// One rejected connection and the router that rejected it.
struct Reject {
    answer: Answer,
    router: RouterProcess,
    tenants: TwoTenants,
}

impl Reject {
    fn of(bytes: &[u8]) -> Self {
        let rejected = Self::router();
        let client = RawClient::connect(rejected.router.address()).unwrap();
        client.send(bytes).unwrap();
        let answer = client.answer();
        assert_eq!(answer.end, End::Closed, "{answer:?}");
        Self { answer, ..rejected }
    }

    fn router() -> Self {
        let tenants = TwoTenants::start();
        let limits = format!("clientHello: {{ timeout: {}s, maxBytes: {MAX_HELLO_BYTES} }}", HELLO_TIMEOUT.as_secs());
        let router = RouterProcess::start_with_debug_log(tenants.setup().listener_line(&limits)).unwrap();
        Self { answer: Answer { bytes: Vec::new(), end: End::Closed }, router, tenants }
    }

    /// In both counters, in one debug line, and nowhere else; no backend heard of it.
    fn assert_counted(&self, hello: &str, connection: &str) {
        let labels = [("tenant", ""), ("mode", "reject"), ("outcome", connection)];
        self.router.wait_for_metric("sni_router_connections_total", &labels, 1.0).unwrap();
        let metrics = self.router.metrics().unwrap();
        assert_eq!(metrics.sum("sni_router_client_hello_total", &[("outcome", hello)]), 1.0);
        assert_eq!(metrics.sum("sni_router_client_hello_total", &[]), 1.0);
        assert_eq!(metrics.sum("sni_router_connections_total", &[]), 1.0);
        self.router.log().wait_for(HELLO_TIMEOUT, &["DEBUG", "rejected", connection]).unwrap();
        assert_eq!(self.router.log().with(&["rejected"]).len(), 1);
        assert_eq!(self.router.log().with(&["ERROR"]), [] as [&str; 0]);
        assert_eq!(self.tenants.passthrough_backend.accepted() + self.tenants.terminate_backend.accepted(), 0);
    }
}

const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_HELLO_BYTES: usize = 4096;
/// RFC 6066 section 9.
const UNRECOGNIZED_NAME: u8 = 112;
/// RFC 8446 section 6.2.
const DECODE_ERROR: u8 = 50;
