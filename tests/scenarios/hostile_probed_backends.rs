//! Backends whose certificates are looked at, and that attack whoever looks: it takes bounded time and memory, the others
//! are looked at as before, and metrics tell who shows nothing.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tests::authority::Authority;
use tests::fakes::{Resetting, Server, ShopWindow};
use tests::patience::{PATIENCE, eventually};
use tests::processes::{Pid, status};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};

#[test]
fn garbage_silence_endless_messages_and_resets_cost_little_and_the_others_nothing() {
    let authority = Authority::new("scenario CA").unwrap();
    let good = authority.expiring_server(&["good.test"], 50 * DAY).unwrap();
    let good = ShopWindow::start(&good, None, 0).unwrap();
    // As large as a handshake message may be, and a certificate all the same.
    let names: Vec<_> = (0..LARGE).map(|number| format!("{number:04}.a-rather-long-name.large.test")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let large = ShopWindow::start(&authority.expiring_server(&names, 60 * DAY).unwrap(), None, 0).unwrap();
    let most = Arc::new(AtomicU64::new(0));
    let attacks: [fn(&mut TcpStream, &AtomicU64) -> io::Result<()>; 4] = [garbage, endless_certificate, warnings, drip];
    let attackers = attacks.map(|attack| {
        let most = Arc::clone(&most);
        Server::start(move |mut stream| {
            let _hello = stream.read(&mut [0; 4096])?;
            let sent = AtomicU64::new(0);
            let result = attack(&mut stream, &sent);
            most.fetch_max(sent.load(Ordering::SeqCst), Ordering::SeqCst);
            result
        })
        .unwrap()
    });
    let resetting = Resetting::start().unwrap();
    let mut setup = Setup::new().tenant(probed("good", good.address())).tenant(probed("large", large.address()));
    for (name, address) in ["garbage", "endless", "warnings", "drip", "resetting"]
        .into_iter()
        .zip(attackers.iter().map(Server::address).chain([resetting.address()]))
    {
        setup = setup.tenant(probed(name, address));
    }
    let router = RouterProcess::start(setup).unwrap();
    let prober = router.prober_pid().unwrap();
    for (tenant, ok) in [
        ("good", 1.0),
        ("large", 1.0),
        ("garbage", 0.0),
        ("endless", 0.0),
        ("warnings", 0.0),
        ("drip", 0.0),
        ("resetting", 0.0),
    ] {
        let told = || {
            let metrics = router.metrics().ok()?;
            let labels = [("tenant", tenant)];
            (metrics.has(LOOKED, &labels) && metrics.sum(LOOKED, &labels) == ok).then_some(())
        };
        eventually(PATIENCE, tenant, told).unwrap();
    }
    let metrics = router.metrics().unwrap();
    let outcome = |outcome| metrics.sum(PROBES, &[("outcome", outcome)]);
    assert!(outcome("no_tls") >= 2.0 && outcome("timeout") >= 1.0 && outcome("closed") >= 1.0);
    assert_eq!((outcome("ok") >= 2.0, outcome("unreadable")), (true, 0.0));
    // The good one is looked at all the time.
    let before = good.accepted();
    eventually(PATIENCE, "more looks", || (good.accepted() >= before + 3).then_some(())).unwrap();
    assert_eq!(router.prober_pid().unwrap(), prober);
    assert!(router.log().with(&["ended unasked"]).is_empty());
    let peak = peak_bytes(prober);
    println!(
        "the prober took {} KiB at most; an attacker sent {} KiB at most",
        peak >> 10,
        most.load(Ordering::SeqCst) >> 10
    );
    assert!(peak < MEMORY, "{peak} bytes");
    // The prober stops reading; the rest is what the sockets' buffers take (net.ipv4.tcp_rmem, tcp_wmem).
    assert!(most.load(Ordering::SeqCst) < SENT, "{most:?} bytes of one connection");
}

#[test]
fn a_tenant_whose_backends_all_stay_silent_leaves_turns_to_the_others() {
    let authority = Authority::new("scenario CA").unwrap();
    let good = authority.expiring_server(&["good.test"], 50 * DAY).unwrap();
    let good = ShopWindow::start(&good, None, 0).unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&now), Arc::clone(&most));
    let silent = Server::start_on((Ipv4Addr::UNSPECIFIED, 0).into(), move |mut stream| {
        let (now, most) = &counts;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let ended = io::copy(&mut stream, &mut io::sink());
        now.fetch_sub(1, Ordering::SeqCst);
        ended.map(drop)
    })
    .unwrap();
    let address = |number| SocketAddr::from(([127, 1, 0, number], silent.address().port()));
    let all_silent =
        (2..=SILENT).fold(probed("silent", address(1)), |tenant, number| tenant.backend(address(number), 1));
    let router = RouterProcess::start(Setup::new().tenant(all_silent).tenant(probed("good", good.address()))).unwrap();
    eventually(PATIENCE, "looks at the good one", || (good.accepted() >= 3).then_some(())).unwrap();
    router.wait_for_metric(PROBES, &[("outcome", "timeout")], 8.0).unwrap();
    eventually(PATIENCE, "and at the next silent ones", || (silent.accepted() > 8).then_some(())).unwrap();
    // Ends that the backend has not seen yet count for it.
    assert!((8..=16).contains(&most.load(Ordering::SeqCst)), "{most:?} of {SILENT} at one time");
}

fn probed(name: &str, backend: SocketAddr) -> Tenant {
    Tenant::passthrough(name, &[&format!("{name}.test")], backend).line("certificateProbe: 1s")
}

/// Bytes that are no record of TLS, without an end.
fn garbage(stream: &mut TcpStream, sent: &AtomicU64) -> io::Result<()> {
    pour(stream, sent, &[0xa5; 16 * 1024])
}

/// TLS 1.2: a certificate message of 16 MiB, in full records, and then another one (RFC 5246 section 7.4.2).
fn endless_certificate(stream: &mut TcpStream, sent: &AtomicU64) -> io::Result<()> {
    let hello = [&[3, 3][..], &[7; 32], &[0, 0xc0, 0x2f, 0, 0, 5, 0xff, 1, 0, 1, 0]].concat();
    let mut message = vec![2, 0, 0, hello.len() as u8];
    message.extend(&hello);
    message.extend([11, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc, 0xff, 0xff, 0xf9]);
    record(stream, &message)?;
    pour(stream, sent, &framed(&[0x30; 16 * 1024]))
}

/// Alerts that ask for nothing (RFC 5246 section 7.2.2: no_renegotiation).
fn warnings(stream: &mut TcpStream, sent: &AtomicU64) -> io::Result<()> {
    pour(stream, sent, &[21, 3, 3, 0, 2, 1, 100])
}

/// A record that is always about to be whole.
fn drip(stream: &mut TcpStream, sent: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&[22, 3, 3, 0x40, 0])?;
    loop {
        // The pace of the attack.
        thread::sleep(Duration::from_millis(100));
        stream.write_all(&[2])?;
        sent.fetch_add(1, Ordering::SeqCst);
    }
}

fn pour(stream: &mut TcpStream, sent: &AtomicU64, bytes: &[u8]) -> io::Result<()> {
    loop {
        stream.write_all(bytes)?;
        sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    }
}

fn record(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(&framed(bytes))
}

/// A handshake record (RFC 5246 section 6.2.1).
fn framed(bytes: &[u8]) -> Vec<u8> {
    let [high, low] = (bytes.len() as u16).to_be_bytes();
    [&[22, 3, 3, high, low], bytes].concat()
}

fn peak_bytes(pid: Pid) -> u64 {
    let status = status(pid).unwrap();
    let peak = status.field("VmHWM").unwrap().trim_end_matches("kB").trim().parse::<u64>().unwrap();
    peak << 10
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Names of one certificate, of some 40 bytes each; rustls takes messages of up to 64 KiB.
const LARGE: usize = 1300;
const SILENT: u8 = 100;
/// Most of it is the program itself.
const MEMORY: u64 = 32 << 20;
const SENT: u64 = 16 << 20;
const PROBES: &str = "sni_router_certificate_probes_total";
const LOOKED: &str = "sni_router_certificate_probe_ok";
