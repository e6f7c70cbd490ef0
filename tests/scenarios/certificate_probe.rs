//! `certificateProbe`: the ends of Passthrough backends' certificates, seen by a process of its own.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use config::Config;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use tests::authority::{Authority, Identity};
use tests::client_tools::{Tool, require};
use tests::fakes::{Look, ShopWindow};
use tests::patience::{PATIENCE, eventually};
use tests::ports::free_address;
use tests::processes::{self, command_line, descendants, is_running};
use tests::router_process::{RouterProcess, send_signal};
use tests::scratch::Scratch;
use tests::setup::{Setup, Tenant};
use x509_parser::parse_x509_certificate;

#[test]
fn an_end_becomes_a_metric_a_warning_and_a_line_of_the_status() {
    let shown = authority().expiring_server(&["k8s.test"], 20 * DAY).unwrap();
    let backend = ShopWindow::start(&shown, None, 0).unwrap();
    let tenant = Tenant::passthrough("pinniped", &["*.wild.test", "k8s.test"], backend.address());
    let router = start(tenant.line("certificateProbe: 1h"));
    wait_for_end(&router, backend.address(), &shown);
    let metrics = router.metrics().unwrap();
    assert_eq!(metrics.sum("sni_router_certificate_prober_up", &[]), 1.0);
    assert_eq!(metrics.sum(PROBES, &[("outcome", "ok")]), 1.0);
    let warning = router.log().wait_for(PATIENCE, &["WARN", "expires soon", "pinniped", "days"]).unwrap();
    assert!(warning.contains(&shown.serial().unwrap()), "{warning}");
    let told = router.admin_get("/v1/certificates").unwrap().json().unwrap();
    assert_eq!(told["certificates"][0]["name"], format!("backend {}", backend.address()));
    assert_eq!(told["certificates"][0]["notAfter"], not_after(&shown) as i64);
    let mut status = Command::new(router.program());
    let status = status.args(["status", "--admin", &format!("http://{}", router.admin())]).output().unwrap();
    assert!(String::from_utf8_lossy(&status.stdout).contains(&format!("backend {}", backend.address())));
    // The first exact name, and not a byte behind the handshake.
    let looked = eventually(PATIENCE, "the look is over", || backend.looks().pop()).unwrap();
    assert_eq!(looked, Look { header: Vec::new(), server_name: Some("k8s.test".to_owned()), bytes: 0 });
}

#[test]
fn an_expired_certificate_is_an_error_and_only_wildcards_are_asked_for_by_a_name_below_the_first() {
    let shown = authority().expiring_server(&["*.wild.test"], Duration::from_secs(1)).unwrap();
    eventually(PATIENCE, "it has expired", || (unix_now() >= not_after(&shown) + 1.0).then_some(())).unwrap();
    let backend = ShopWindow::start(&shown, None, 0).unwrap();
    let tenant = Tenant::passthrough("wild", &["*.wild.test"], backend.address());
    let router = start(tenant.line("certificateProbe: 1h"));
    wait_for_end(&router, backend.address(), &shown);
    router.log().wait_for(PATIENCE, &["ERROR", "has expired", "wild"]).unwrap();
    let looked = eventually(PATIENCE, "the look is over", || backend.looks().pop()).unwrap();
    assert_eq!(looked.server_name.as_deref(), Some("certificate-probe.wild.test"));
}

#[test]
fn backends_that_demand_a_certificate_show_theirs_all_the_same() {
    let authority = authority();
    let new = authority.expiring_server(&["new.test"], 50 * DAY).unwrap();
    let new_backend = ShopWindow::start(&new, Some(&authority), 0).unwrap();
    let old = authority.expiring_server(&["old.test"], 60 * DAY).unwrap();
    let Some(old_backend) = SServer::start(&old, &["-tls1_2", "-Verify", "1"]) else { return };
    let other = Tenant::passthrough("old", &["old.test"], old_backend.address).line("certificateProbe: 1h");
    let tenant = Tenant::passthrough("new", &["new.test"], new_backend.address()).line("certificateProbe: 1h");
    let router = RouterProcess::start(Setup::new().tenant(tenant).tenant(other)).unwrap();
    wait_for_end(&router, new_backend.address(), &new);
    wait_for_end(&router, old_backend.address, &old);
    assert_eq!(router.metrics().unwrap().sum(PROBES, &[("outcome", "ok")]), 2.0);
}

#[test]
fn a_rotated_certificate_is_seen_at_the_next_look() {
    let (first, second) = (lasting(50), lasting(80));
    let backend = ShopWindow::start(&first, None, 0).unwrap();
    let router = start(Tenant::passthrough("t", &["k8s.test"], backend.address()).line("certificateProbe: 1s"));
    wait_for_end(&router, backend.address(), &first);
    backend.show(&second).unwrap();
    wait_for_end(&router, backend.address(), &second);
    let line = router.log().wait_for(PATIENCE, &["INFO", "another certificate"]).unwrap();
    assert!(line.contains(&first.serial().unwrap()) && line.contains(&second.serial().unwrap()), "{line}");
    // One sample: the former one is nobody's any more.
    let ends = router.metrics().unwrap().sum(END, &[("tenant", "t")]);
    assert_eq!(ends, not_after(&second));
}

#[test]
fn what_was_seen_last_stays_told_while_the_backend_is_away() {
    let shown = lasting(50);
    let backend = ShopWindow::start(&shown, None, 0).unwrap();
    let address = backend.address();
    let never = free_address().unwrap();
    let tenant = Tenant::passthrough("t", &["k8s.test"], address).backend(never, 1).line("certificateProbe: 1s");
    let router = start(tenant);
    wait_for_end(&router, address, &shown);
    drop(backend);
    wait_for_ok(&router, address, 0.0);
    wait_for_ok(&router, never, 0.0);
    let metrics = router.metrics().unwrap();
    assert!(metrics.sum(PROBES, &[("outcome", "refused")]) >= 2.0);
    assert_eq!(metrics.sum(END, &[("backend", &address.to_string())]), not_after(&shown));
    assert!(!metrics.has(END, &[("backend", &never.to_string())]));
    // Once, however often it is tried.
    router.wait_for_metric(PROBES, &[("outcome", "refused")], 6.0).unwrap();
    assert_eq!(router.log().with(&["WARN", "cannot be seen", &address.to_string()]).len(), 1);
    let _backend = ShopWindow::start_on(address, &shown, None, 0).unwrap();
    wait_for_ok(&router, address, 1.0);
    router.log().wait_for(PATIENCE, &["INFO", "shows its certificate again"]).unwrap();
}

#[test]
fn a_backend_behind_the_proxy_protocol_gets_a_header_without_addresses() {
    let shown = lasting(50);
    // PROXY protocol, sections 2.1 and 2.2: UNKNOWN, and LOCAL with nothing behind the 16 bytes.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (version, header) in [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", &local[..])] {
        let backend = ShopWindow::start(&shown, None, header.len()).unwrap();
        let tenant = Tenant::passthrough("t", &["k8s.test"], backend.address());
        let tenant = tenant.line("certificateProbe: 1h").line(&format!("proxyProtocol: {{ version: {version} }}"));
        let router = start(tenant);
        wait_for_end(&router, backend.address(), &shown);
        let looked = eventually(PATIENCE, "the look is over", || backend.looks().pop()).unwrap();
        assert_eq!(looked.header, header, "{version}");
    }
}

#[test]
fn a_name_is_looked_at_where_the_router_finds_it() {
    let shown = lasting(50);
    let backend = ShopWindow::start(&shown, None, 0).unwrap();
    let dns = tests::dns_server::DnsServer::start().unwrap();
    dns.set("svc.probe.test", &[backend.address().ip()]);
    let tenant = Tenant::passthrough("t", &["k8s.test"], backend.address());
    let tenant = tenant.backend_named("svc.probe.test", backend.address().port()).line("certificateProbe: 1h");
    let resolver = format!("resolver: {{ servers: [\"{}\"], minTtl: 100ms }}", dns.address());
    let router = RouterProcess::start(Setup::new().line(&resolver).tenant(tenant)).unwrap();
    wait_for_end(&router, backend.address(), &shown);
}

#[test]
fn it_holds_nothing_and_may_do_nothing_else() {
    let backend = ShopWindow::start(&lasting(50), None, 0).unwrap();
    let router = start(Tenant::passthrough("t", &["k8s.test"], backend.address()).line("certificateProbe: 1h"));
    let prober = router.prober_pid().unwrap();
    router.wait_for_metric(PROBES, &[("outcome", "ok")], 1.0).unwrap();
    let metrics = router.metrics().unwrap();
    for part in [
        "no_new_privileges",
        "no_capabilities",
        "not_dumpable",
        "no_core_dumps",
        "seccomp",
        "landlock_files",
        "landlock_network",
    ] {
        assert_eq!(metrics.sum("sni_router_certificate_prober_sandbox", &[("part", part)]), 1.0, "{part}");
    }
    let status = processes::status(prober).unwrap();
    assert_eq!((status.field("NoNewPrivs").unwrap(), status.field("Seccomp").unwrap()), ("1", "2"));
    assert_eq!((status.capabilities("CapEff").unwrap(), status.capabilities("CapPrm").unwrap()), (0, 0));
    if geteuid().is_root() {
        let config = Config::load(router.config_file()).unwrap();
        assert_eq!(status.uids().unwrap(), [config.prober_identity().unwrap().uid; 4]);
        assert!(status.groups().unwrap().is_empty());
        assert_eq!(metrics.sum("sni_router_certificate_prober_sandbox", &[("part", "own_uid")]), 1.0);
    }
    let files = processes::open_descriptors(prober).unwrap();
    // All processes write to the same standard output and the same log.
    let folder = router.folder().to_string_lossy();
    let mut own = files.iter().filter_map(|file| file.strip_prefix(&*folder));
    assert!(own.all(|file| file == "/stdout" || file.starts_with("/log-")), "{files:?}");
}

#[test]
fn one_that_crashes_comes_back_and_the_router_does_not_notice() {
    let backend = ShopWindow::start(&lasting(50), None, 0).unwrap();
    let router = start(Tenant::passthrough("t", &["k8s.test"], backend.address()).line("certificateProbe: 1h"));
    wait_for_ok(&router, backend.address(), 1.0);
    let (prober, own) = (router.prober_pid().unwrap(), router.router_pid().unwrap());
    send_signal(prober, Signal::SIGKILL).unwrap();
    router.log().wait_for(PATIENCE, &["WARN", "prober", "ended unasked"]).unwrap();
    eventually(PATIENCE, "another look", || (backend.accepted() == 2).then_some(())).unwrap();
    wait_for_ok(&router, backend.address(), 1.0);
    assert_eq!(router.router_pid().unwrap(), own);
    assert_ne!(router.prober_pid().unwrap(), prober);
}

#[test]
fn a_reload_changes_who_is_looked_at_and_an_upgrade_looks_at_nobody_again() {
    let (first, second) = (lasting(50), lasting(80));
    let backends = [&first, &second].map(|shown| ShopWindow::start(shown, None, 0).unwrap());
    let [one, two] = backends.each_ref().map(ShopWindow::address);
    let other = Tenant::passthrough("b", &["b.test"], two).line("# probe");
    let router = RouterProcess::start(
        Setup::new().tenant(Tenant::passthrough("a", &["k8s.test"], one).line("idleTimeout: 1m")).tenant(other),
    )
    .unwrap();
    assert_eq!(probers(&router).len(), 0);
    assert!(!router.metrics().unwrap().has("sni_router_certificate_prober_up", &[]));

    change(&router, |text| text.replace("idleTimeout: 1m", "certificateProbe: 1h"));
    wait_for_end(&router, one, &first);
    let prober = router.prober_pid().unwrap();

    // The other tenant comes: what is known of the first one is not asked for again.
    change(&router, |text| text.replace("# probe", "certificateProbe: 1h"));
    wait_for_end(&router, two, &second);
    wait_for_end(&router, one, &first);
    eventually(PATIENCE, "the former prober is gone", || (!is_running(prober)).then_some(())).unwrap();
    assert_eq!(backends.each_ref().map(ShopWindow::accepted), [1, 1]);

    let prober = router.prober_pid().unwrap();
    router.signal(Signal::SIGUSR2).unwrap();
    router.log().wait_for(PATIENCE, &["goes on as another version of its program"]).unwrap();
    eventually(PATIENCE, "the former prober is gone", || (!is_running(prober)).then_some(())).unwrap();
    wait_for_end(&router, one, &first);
    wait_for_end(&router, two, &second);
    assert_eq!((backends.each_ref().map(ShopWindow::accepted), probers(&router).len()), ([1, 1], 1));

    // The supervisor that has just begun knows it, and ends it.
    change(&router, |text| text.replace("certificateProbe: 1h", "idleTimeout: 1m"));
    eventually(PATIENCE, "no prober is left", || probers(&router).is_empty().then_some(())).unwrap();
    eventually(PATIENCE, "nothing is told any more", || (!router.metrics().ok()?.has(END, &[])).then_some(())).unwrap();
    assert!(router.log().with(&["ended unasked"]).is_empty());
}

#[test]
fn it_ends_with_the_supervisor_and_at_a_drain() {
    let backend = ShopWindow::start(&lasting(50), None, 0).unwrap();
    let tenant = || Tenant::passthrough("t", &["k8s.test"], backend.address()).line("certificateProbe: 1h");
    let mut router = start(tenant());
    let prober = router.prober_pid().unwrap();
    router.signal(Signal::SIGTERM).unwrap();
    assert!(router.wait_for_exit(PATIENCE).unwrap().success());
    assert!(!is_running(prober));
    let router = start(tenant());
    let prober = router.prober_pid().unwrap();
    router.signal(Signal::SIGKILL).unwrap();
    eventually(PATIENCE, "the prober ends by itself", || (!is_running(prober)).then_some(())).unwrap();
}

/// `openssl s_server`.
struct SServer {
    process: Child,
    address: SocketAddr,
    _files: Scratch,
}

impl SServer {
    /// `None` where there is no openssl, after a line that says so.
    fn start(shown: &Identity, options: &[&str]) -> Option<Self> {
        let openssl = require(Tool::OpenSsl, "openssl s_server as a backend").unwrap()?;
        let (address, scratch) = (free_address().unwrap(), Scratch::new().unwrap());
        let files = shown.write_files(scratch.path(), "server").unwrap();
        let process = Command::new(openssl)
            .args(["s_server", "-quiet", "-accept", &address.to_string()])
            .args(options)
            .arg("-cert")
            .arg(files.certificate)
            .arg("-key")
            .arg(files.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { process, address, _files: scratch };
        eventually(PATIENCE, "openssl listens", || std::net::TcpStream::connect(address).ok().map(drop)).unwrap();
        Some(this)
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(tenant: Tenant) -> RouterProcess {
    RouterProcess::start(Setup::new().tenant(tenant)).unwrap()
}

fn authority() -> Authority {
    Authority::new("scenario CA").unwrap()
}

fn lasting(days: u32) -> Identity {
    authority().expiring_server(&["k8s.test"], days * DAY).unwrap()
}

fn not_after(identity: &Identity) -> f64 {
    let leaf = identity.leaf();
    let (_, certificate) = parse_x509_certificate(&leaf).unwrap();
    certificate.validity().not_after.timestamp() as f64
}

fn unix_now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

fn wait_for_end(router: &RouterProcess, backend: SocketAddr, shown: &Identity) {
    let (backend, serial) = (backend.to_string(), shown.serial().unwrap());
    let labels = [("backend", &*backend), ("serial", &*serial)];
    // A page that is asked for while probers replace each other may lack what they know.
    let is_told = || (router.metrics().ok()?.sum(END, &labels) == not_after(shown)).then_some(());
    eventually(PATIENCE, "the end of the certificate is told", is_told).unwrap();
}

fn wait_for_ok(router: &RouterProcess, backend: SocketAddr, value: f64) {
    let labels = [("backend", &*backend.to_string())];
    eventually(PATIENCE, &format!("{OK} of {backend} is {value}"), || {
        let metrics = router.metrics().ok()?;
        (metrics.has(OK, &labels) && metrics.sum(OK, &labels) == value).then_some(())
    })
    .unwrap();
}

fn change(router: &RouterProcess, edit: impl FnOnce(String) -> String) {
    let path = router.config_file();
    let next = edit(fs::read_to_string(path).unwrap());
    let new = path.with_extension("new");
    fs::write(&new, next).unwrap();
    fs::rename(new, path).unwrap();
}

fn probers(router: &RouterProcess) -> Vec<processes::Pid> {
    let all = descendants(router.supervisor_pid().unwrap()).into_iter();
    all.filter(|pid| command_line(*pid).iter().skip(1).any(|word| word == "probe")).collect()
}

const END: &str = "sni_router_backend_certificate_not_after_seconds";
const OK: &str = "sni_router_certificate_probe_ok";
const PROBES: &str = "sni_router_certificate_probes_total";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
