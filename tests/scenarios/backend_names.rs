//! Names as backends: all their addresses, followed by TTL, in both modes; the last good answer where there is none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::authority::{Authority, KeyKind};
use tests::binaries::sni_router;
use tests::dns_server::DnsServer;
use tests::fakes::{Echo, IdentityBackend, PlainHttp};
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::processes::is_running;
use tests::raw_client::{End, RawClient};
use tests::router_process::{RouterProcess, send_signal};
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant};
use tests::tls_client::TlsClient;

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

#[test]
fn passthrough_follows_a_name_and_what_is_established_ends_as_it_began() {
    let dns = DnsServer::start().unwrap();
    let backends = two(Echo::start_on, Echo::address);
    let port = backends[0].address().port();
    dns.set(NAME, &[FIRST]);
    let router = start(&dns, passthrough(port));
    let held = echoed(&router);
    assert_eq!(backends[0].accepted(), 1);

    dns.set(NAME, &[SECOND]);
    wait_until_only(&router, SocketAddr::new(SECOND, port), SocketAddr::new(FIRST, port));
    (0..5).for_each(|_| drop(echoed(&router)));
    assert_eq!([backends[0].accepted(), backends[1].accepted()], [1, 5]);
    held.send(b"still there").unwrap();
    assert_eq!(held.read(11).unwrap(), b"still there");
}

#[test]
fn a_terminator_is_told_and_follows() {
    for startup in ["Always", "OnDemand"] {
        let dns = DnsServer::start().unwrap();
        let backends = two(|address| PlainHttp::start_on(address, "backend"), PlainHttp::address);
        let port = backends[0].address().port();
        dns.set(NAME, &[FIRST]);
        let (tenant, client) = terminated(port);
        let router = start(&dns, tenant.line(&format!("startup: {startup}")));
        assert_eq!(client.get(router.address(), TERMINATE, "/").unwrap().status, 200);
        assert_eq!(backends[0].accepted(), 1);

        dns.set(NAME, &[SECOND]);
        wait_until_only(&router, SocketAddr::new(SECOND, port), SocketAddr::new(FIRST, port));
        (0..5).for_each(|_| assert_eq!(client.get(router.address(), TERMINATE, "/").unwrap().status, 200));
        assert_eq!([backends[0].accepted(), backends[1].accepted()], [1, 5]);
    }
}

#[test]
fn a_terminator_that_comes_back_is_told_again() {
    let dns = DnsServer::start().unwrap();
    let backends = two(|address| PlainHttp::start_on(address, "backend"), PlainHttp::address);
    let port = backends[0].address().port();
    dns.set(NAME, &[FIRST]);
    let (tenant, client) = terminated(port);
    let check = "healthCheck: { interval: 20ms, timeout: 1s, unhealthyAfter: 2, healthyAfter: 2 }";
    let router = start(&dns, tenant.line(check));
    // Nobody connects: it is told all the same, and probes.
    eventually(PATIENCE, "a probe arrives", || (backends[0].accepted() > 0).then_some(())).unwrap();
    let former = router.terminator_pid("acme").unwrap();
    send_signal(former, Signal::SIGKILL).unwrap();
    router.wait_for_metric("sni_terminator_restarts_total", &[("tenant", "acme")], 1.0).unwrap();
    let before = backends[0].accepted();
    eventually(PATIENCE, "its successor probes", || (backends[0].accepted() > before).then_some(())).unwrap();
    assert_eq!(client.get(router.address(), TERMINATE, "/").unwrap().status, 200);
}

#[test]
fn the_last_good_answer_holds_when_nobody_answers() {
    let dns = DnsServer::start().unwrap();
    let backends = two(Echo::start_on, Echo::address);
    let port = backends[0].address().port();
    dns.set(NAME, &[FIRST]);
    let router = start(&dns, passthrough(port));
    drop(echoed(&router));

    dns.fail();
    let answered = [("name", NAME)];
    router.wait_for_metric("sni_router_name_answered", &answered, 0.0).unwrap();
    drop(echoed(&router));
    router.log().wait_for(PATIENCE, &["its last good answer holds", NAME]).unwrap();
    dns.set(NAME, &[SECOND]);
    dns.recover();
    router.wait_for_metric("sni_router_name_answered", &answered, 1.0).unwrap();
    wait_until_only(&router, SocketAddr::new(SECOND, port), SocketAddr::new(FIRST, port));
    router.log().wait_for(PATIENCE, &["is resolved again", NAME]).unwrap();
    assert_eq!(router.log().with(&["its last good answer holds"]).len(), 1, "told once per row of failures");

    // Not even a server any more.
    drop(dns);
    router.wait_for_metric("sni_router_name_answered", &answered, 0.0).unwrap();
    drop(echoed(&router));
    assert_eq!([backends[0].accepted(), backends[1].accepted()], [2, 1]);
    assert!(router.log().with(&["hickory"]).is_empty(), "the library speaks for itself");
}

#[test]
fn a_name_that_does_not_exist_yet_is_its_tenant_s_trouble_alone() {
    let dns = DnsServer::start().unwrap();
    let (backend, other) = (Echo::start().unwrap(), Echo::start().unwrap());
    let port = backend.address().port();
    let setup =
        setup(&dns).tenant(passthrough(port)).tenant(Tenant::passthrough("other", &["other.test"], other.address()));
    let router = RouterProcess::start(setup).unwrap();
    let name = format!("{NAME}:{port}");
    router.wait_for_metric("sni_router_name_addresses", &[("name", NAME)], 0.0).unwrap();
    router.wait_for_metric("sni_router_backend_up", &[("backend", &name)], 0.0).unwrap();
    router.log().wait_for(PATIENCE, &["has no address", NAME]).unwrap();

    let client = RawClient::connect(router.address()).unwrap();
    let start = Instant::now();
    client.send(&Hello::named(PASSTHROUGH).records()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.alert(), answer.end), (Some(INTERNAL_ERROR), End::Closed));
    assert!(start.elapsed() < CONNECT_TIMEOUT, "the client waited for a time-out");
    let labels = [("tenant", "pinniped"), ("outcome", "backend_no_address")];
    router.wait_for_metric("sni_router_connections_total", &labels, 1.0).unwrap();
    let hello = Hello::named("other.test").records();
    let client = RawClient::connect(router.address()).unwrap();
    client.send(&hello).unwrap();
    assert_eq!(client.read(hello.len()).unwrap(), hello);

    dns.set(NAME, &[backend.address().ip()]);
    router.wait_for_metric("sni_router_backend_up", &[("backend", &backend.address().to_string())], 1.0).unwrap();
    drop(echoed(&router));
    let told = router.admin_get("/v1/backends").unwrap().json().unwrap();
    assert_eq!(told["backends"][0]["name"], name);
    dns.remove(NAME);
    assert!(router.log().with(&["hickory"]).is_empty(), "the library speaks for itself");
    router.wait_for_metric("sni_router_backend_up", &[("backend", &name)], 0.0).unwrap();
}

#[test]
fn both_families_are_used_with_the_same_weight() {
    let dns = DnsServer::start().unwrap();
    let v4 = Echo::start_on(SocketAddr::new(FIRST, 0)).unwrap();
    let port = v4.address().port();
    let v6 = Echo::start_on(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)).unwrap();
    dns.set(NAME, &[FIRST, v6.address().ip()]);
    let router = start(&dns, passthrough(port).line("balance: RoundRobin"));
    router.wait_for_metric("sni_router_name_addresses", &[("name", NAME)], 2.0).unwrap();
    (0..10).for_each(|_| drop(echoed(&router)));
    assert_eq!([v4.accepted(), v6.accepted()], [5, 5]);
}

#[test]
fn a_backend_s_certificate_has_to_carry_the_name_that_led_there() {
    let dns = DnsServer::start().unwrap();
    let authority = Authority::new("scenario CA").unwrap();
    let identity = authority.server(&[NAME], KeyKind::Ecdsa).unwrap();
    let backend = IdentityBackend::start("backend", &identity, &authority).unwrap();
    let port = backend.address().port();
    for name in [NAME, "alias.test"] {
        dns.set(name, &[backend.address().ip()]);
    }
    let scratch = Scratch::new().unwrap();
    let ca = scratch.write("ca.crt", authority.pem()).unwrap();
    let shown = authority.client("router").unwrap();
    let served = authority.server(&["a.test", "b.test"], KeyKind::Ecdsa).unwrap();
    let tenant = |name: &str, backend_name| {
        let hostname = format!("{name}.test");
        Tenant::terminate(name, &[&hostname], backend.address(), &served)
            .backend_named(backend_name, port)
            .backend_tls(&format!("ca: [{}]", ca.display()), Some(&shown))
    };
    let setup = setup(&dns).tenant(tenant("a", NAME)).tenant(tenant("b", "alias.test"));
    let router = RouterProcess::start_in(scratch, setup).unwrap();
    let client = TlsClient::trusting(&authority).unwrap();
    let seen = client.get(router.address(), "a.test", "/").unwrap().json().unwrap();
    assert_eq!(seen["serverName"], NAME, "{seen}");
    client.get(router.address(), "b.test", "/").unwrap_err();
    let labels = [("tenant", "b"), ("outcome", "failed")];
    eventually(PATIENCE, "the handshake with the alias fails", || {
        let metrics = router.metrics().ok()?;
        (metrics.sum("sni_terminator_backend_handshakes_total", &labels) > 0.0).then_some(())
    })
    .unwrap();
}

#[test]
fn a_reload_and_a_crash_leave_what_is_known() {
    let dns = DnsServer::start().unwrap();
    let backend = PlainHttp::start_on(SocketAddr::new(FIRST, 0), "backend").unwrap();
    let echo = Echo::start_on(SocketAddr::new(SECOND, 0)).unwrap();
    dns.set(NAME, &[FIRST]);
    dns.set("echo.test", &[SECOND]);
    let (tenant, client) = terminated(backend.address().port());
    let echoing = Tenant::passthrough("pinniped", &[PASSTHROUGH], echo.address());
    let echoing = echoing.backend_named("echo.test", echo.address().port());
    let router = RouterProcess::start(setup(&dns).tenant(tenant).tenant(echoing)).unwrap();
    assert_eq!(client.get(router.address(), TERMINATE, "/").unwrap().status, 200);
    drop(echoed(&router));

    // Both tenants change, so that the terminator is another one, while nobody answers.
    dns.fail();
    for name in [NAME, "echo.test"] {
        router.wait_for_metric("sni_router_name_answered", &[("name", name)], 0.0).unwrap();
    }
    let former = router.terminator_pid("acme").unwrap();
    let text = std::fs::read_to_string(router.config_file()).unwrap();
    let changed = text.replace("mode: ", "idleTimeout: 1h\n    mode: ");
    std::fs::write(router.config_file(), changed).unwrap();
    router.wait_for_metric("sni_router_config_reloads_total", &[("outcome", "ok")], 1.0).unwrap();
    assert_eq!(client.get(router.address(), TERMINATE, "/").unwrap().status, 200);
    drop(echoed(&router));
    eventually(PATIENCE, "the former terminator ends", || (!is_running(former)).then_some(())).unwrap();

    // A tenant that comes with a name that is known already does not wait for an answer.
    let text = std::fs::read_to_string(router.config_file()).unwrap();
    let late = format!(
        "  - {{ name: late, hostnames: [late.test], mode: Passthrough, backends: [{{ address: \"echo.test:{}\" }}] }}\n",
        echo.address().port()
    );
    std::fs::write(router.config_file(), text + &late).unwrap();
    router.wait_for_metric("sni_router_config_reloads_total", &[("outcome", "ok")], 2.0).unwrap();
    let hello = Hello::named("late.test").records();
    let late = RawClient::connect(router.address()).unwrap();
    late.send(&hello).unwrap();
    assert_eq!(late.read(hello.len()).unwrap(), hello);

    // A terminator that crashes is told what is known, too.
    let pid = router.terminator_pid("acme").unwrap();
    send_signal(pid, Signal::SIGKILL).unwrap();
    let is_another = || router.terminator_pid("acme").ok().filter(|now| *now != pid).map(drop);
    eventually(PATIENCE, "another terminator is there", is_another).unwrap();
    assert_eq!(client.get(router.address(), TERMINATE, "/").unwrap().status, 200);
}

#[test]
fn a_reload_asks_more_often_and_then_another_server_until_whose_answer_what_was_known_holds() {
    let (first, second) = (DnsServer::start().unwrap(), DnsServer::start().unwrap());
    let (echoes, pages) = (
        two(Echo::start_on, Echo::address),
        two(|address| PlainHttp::start_on(address, "backend"), PlainHttp::address),
    );
    let (port, pages_port) = (echoes[0].address().port(), pages[0].address().port());
    let (tenant, client) = terminated(pages_port);
    first.set(NAME, &[FIRST]);
    let resolver = |dns: &DnsServer, times: &str| format!("resolver: {{ servers: [\"{}\"], {times} }}", dns.address());
    let (seldom, often) = ("minTtl: 1h, maxTtl: 2h", "minTtl: 20ms, maxTtl: 50ms");
    let setup = Setup::new().line(&resolver(&first, seldom)).tenant(passthrough(port)).tenant(tenant);
    let router = RouterProcess::start(setup).unwrap();
    let (pid, held) = (router.router_pid().unwrap(), echoed(&router));
    let get = || assert_eq!(client.get(router.address(), TERMINATE, "/").unwrap().status, 200);
    get();
    let reload = |count: f64, from: String, to: String| {
        let text = std::fs::read_to_string(router.config_file()).unwrap();
        assert!(text.contains(&from));
        std::fs::write(router.config_file(), text.replace(&from, &to)).unwrap();
        router.wait_for_metric("sni_router_config_reloads_total", &[("outcome", "ok")], count).unwrap();
    };
    let follows = |now: usize| {
        let addresses = [FIRST, SECOND].map(|ip| SocketAddr::new(ip, port));
        wait_until_only(&router, addresses[now], addresses[1 - now]);
        let before = echoes[now].accepted();
        drop(echoed(&router));
        assert_eq!(echoes[now].accepted(), before + 1);
        let before = pages[now].accepted();
        let is_told = || {
            get();
            (pages[now].accepted() > before).then_some(())
        };
        eventually(PATIENCE, "the terminator is told, too", is_told).unwrap();
    };

    first.set(NAME, &[SECOND]);
    reload(1.0, resolver(&first, seldom), resolver(&first, often));
    follows(1);

    second.fail();
    reload(2.0, resolver(&first, often), resolver(&second, often));
    router.wait_for_metric("sni_router_name_resolutions_total", &[("outcome", "failed")], 1.0).unwrap();
    drop(first);
    follows(1);
    second.set(NAME, &[FIRST]);
    second.recover();
    follows(0);
    held.send(b"still there").unwrap();
    assert_eq!(held.read(11).unwrap(), b"still there");
    assert_eq!(router.router_pid().unwrap(), pid, "the process that runs does all of this");
}

#[test]
fn check_says_what_names_stand_for() {
    let dns = DnsServer::start().unwrap();
    dns.set(NAME, &[FIRST, Ipv6Addr::LOCALHOST.into()]);
    let scratch = Scratch::new().unwrap();
    let missing =
        Tenant::passthrough("other", &["other.test"], SocketAddr::new(FIRST, 9)).backend_named("missing.test", 9);
    let written = setup(&dns).tenant(passthrough(9)).tenant(missing).write(&scratch).unwrap();
    let check = |arguments: &[&str]| {
        let output = Command::new(sni_router().unwrap())
            .arg("check")
            .arg("--config")
            .arg(&written.path)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = check(&[]);
    assert!(text.contains(&format!("name {NAME}: 127.0.0.2, ::1\n")), "{text}");
    assert!(text.contains("name missing.test: warning: no such name, or no address"), "{text}");
    let told: serde_json::Value = serde_json::from_str(&check(&["--json"])).unwrap();
    assert_eq!(told["names"][1]["addresses"], serde_json::json!(["127.0.0.2", "::1"]), "{told}");
    assert_eq!(told["names"][0]["name"], "missing.test");
}

/// Names without a dot at the end, and with two labels: what resolv.conf has as a search list is not asked.
const NAME: &str = "svc.test";
const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// The default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// RFC 8446 section 6.2.
const INTERNAL_ERROR: u8 = 80;

fn setup(dns: &DnsServer) -> Setup {
    Setup::new().line(&format!("resolver: {{ servers: [\"{}\"], minTtl: 20ms, maxTtl: 50ms }}", dns.address()))
}

fn start(dns: &DnsServer, tenant: Tenant) -> RouterProcess {
    RouterProcess::start(setup(dns).tenant(tenant)).unwrap()
}

fn passthrough(port: u16) -> Tenant {
    Tenant::passthrough("pinniped", &[PASSTHROUGH], SocketAddr::new(FIRST, port)).backend_named(NAME, port)
}

fn terminated(port: u16) -> (Tenant, TlsClient) {
    let authority = Authority::new("scenario CA").unwrap();
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    let tenant = Tenant::terminate("acme", &[TERMINATE], SocketAddr::new(FIRST, port), &certificate);
    (tenant.backend_named(NAME, port), TlsClient::trusting(&authority).unwrap())
}

/// The same port on both addresses.
fn two<B>(start_on: impl Fn(SocketAddr) -> anyhow::Result<B>, address: impl Fn(&B) -> SocketAddr) -> [B; 2] {
    let first = start_on(SocketAddr::new(FIRST, 0)).unwrap();
    let second = start_on(SocketAddr::new(SECOND, address(&first).port())).unwrap();
    [first, second]
}

/// A connection whose hello the backend has given back.
fn echoed(router: &RouterProcess) -> RawClient {
    let hello = Hello::named(PASSTHROUGH).records();
    let client = RawClient::connect(router.address()).unwrap();
    client.send(&hello).unwrap();
    assert_eq!(client.read(hello.len()).unwrap(), hello);
    client
}

fn wait_until_only(router: &RouterProcess, new: SocketAddr, former: SocketAddr) {
    let has = |backend: SocketAddr| {
        Some(router.metrics().ok()?.has("sni_router_backend_up", &[("backend", &backend.to_string())]))
    };
    let only_the_new = || (has(new)? && !has(former)?).then_some(());
    eventually(PATIENCE, &format!("{new} is there and {former} is not"), only_the_new).unwrap();
}
