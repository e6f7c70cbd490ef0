//! The rarer reasons for the relay, each provoked and counted once; the usual ones are in `fallbacks`. What needs a full
//! map or a missing capability is a unit test of the router.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tests::client_tools::require_root;
use tests::fakes::Server;
use tests::hello::Hello;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::raw_tcp::RawTcp;
use tests::router_process::{RouterProcess, send_signal, suspend};
use tests::setup::{Setup, Tenant};

use super::plan::{Plan, Turn};
use super::site::{self, FALLBACKS, NAME, PATHS, Site, connections};

#[test]
fn a_backend_on_an_address_of_this_host() {
    if !require_root("fallbacks").unwrap() {
        return;
    }
    let network = site::network();
    let address = (Ipv4Addr::new(10, 0, 2, 1), 0).into();
    let backend = network.router.run(|| Server::start_on(address, echo)).unwrap();
    let site = Site::on(network, cut_through_with("here.test", backend.address()), RouterProcess::start);
    site.at_client(|| exchange(site.address(), "here.test"));
    counted(&site, "backend_not_seen");
}

#[test]
fn a_client_that_has_finished_before_it_is_accepted() {
    let Some(site) = Site::new("fallbacks", "CutThrough") else { return };
    let mut client = while_the_router_stands_still(&site, || {
        let mut client = TcpStream::connect(site.address())?;
        client.write_all(&Hello::named(NAME).records())?;
        client.write_all(&Plan { client_to_backend: 0, ..PLAN }.encode())?;
        client.shutdown(Shutdown::Write)?;
        Ok(client)
    });
    client.read_to_end(&mut Vec::new()).unwrap();
    counted(&site, "finished");
}

#[test]
fn a_hello_whose_segments_come_in_the_wrong_order() {
    let Some(site) = Site::new("fallbacks", "CutThrough") else { return };
    RawTcp::prepare(&site.network).unwrap();
    let bytes = [&Hello::named(NAME).padded(500).records()[..], &PLAN.encode()].concat();
    site.at_client(|| {
        let mut tcp = RawTcp::connect(40_000, site.address()).unwrap();
        tcp.write_at(300, &bytes[300..]).unwrap();
        tcp.write_at(0, &bytes[..300]).unwrap();
        // The backend begins, so that there is something to wait for.
        tcp.read().unwrap();
    });
    let early = || (site.metrics().sum(FALLBACKS, &[("reason", "early_data")]) == 1.0).then_some(());
    eventually(PATIENCE, "the reason is counted", early).unwrap();
}

#[test]
fn a_backend_that_speaks_first() {
    if !require_root("fallbacks").unwrap() {
        return;
    }
    let network = site::network();
    let greet = |mut stream: TcpStream| stream.write_all(b"g").and_then(|()| echo(stream));
    let address = (network.backend.address(), 0).into();
    let backend = network.backend.run(|| Server::start_on(address, greet)).unwrap();
    let site = Site::on(network, cut_through_with("first.test", backend.address()), RouterProcess::start);
    // The greeting has to come between two steps of the router: it stands still now and then.
    let router = site.router.router_pid().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                send_signal(router, Signal::SIGSTOP).unwrap();
                thread::yield_now();
                send_signal(router, Signal::SIGCONT).unwrap();
                thread::sleep(Duration::from_micros(300));
            }
        });
        let provoked = site.at_client(|| {
            eventually(PATIENCE, "the reason is counted", || {
                let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| greeted(site.address()))).collect();
                clients.into_iter().for_each(|client| client.join().unwrap());
                (site.metrics().sum(FALLBACKS, &[("reason", "backend_spoke")]) > 0.0).then_some(())
            })
        });
        done.store(true, Ordering::Relaxed);
        provoked.unwrap();
    });
}

#[test]
fn a_route_to_the_client_with_timestamps_in_microseconds() {
    let prepare = |network: &Network| {
        network.router.run(|| microsecond_timestamps(Ipv4Addr::new(10, 0, 1, 2), "to-client")).unwrap();
    };
    let Some(site) = Site::with("fallbacks", |setup| setup.line("dataPath: CutThrough"), prepare) else { return };
    site.run(site.address(), NAME, 1, std::iter::once(PLAN));
    counted(&site, "microsecond_timestamps");
}

#[test]
fn a_client_with_ip_options() {
    let Some(site) = Site::new("fallbacks", "CutThrough") else { return };
    RawTcp::prepare(&site.network).unwrap();
    site.at_client(|| {
        let mut tcp = RawTcp::connect_with_ip_options(40_000, site.address(), &RECORD_ROUTE).unwrap();
        tcp.write(&[&Hello::named(NAME).records()[..], &PLAN.encode()].concat()).unwrap();
        tcp.read().unwrap();
    });
    let options = || (site.metrics().sum(FALLBACKS, &[("reason", "ip_options")]) == 1.0).then_some(());
    eventually(PATIENCE, "the reason is counted", options).unwrap();
}

#[test]
fn a_client_that_sends_a_lot_before_it_is_accepted() {
    let prepare = |network: &Network| {
        network.router.set("ipv4/tcp_rmem", "4096 2000000 6000000").unwrap();
        network.client.set("ipv4/tcp_wmem", "4096 2000000 6000000").unwrap();
    };
    let Some(site) = Site::with("fallbacks", |setup| setup.line("dataPath: CutThrough"), prepare) else { return };
    let plan = Plan { client_to_backend: 200_000, turn: Turn::ClientFirst, ..PLAN };
    let client = while_the_router_stands_still(&site, || {
        let mut client = TcpStream::connect(site.address())?;
        client.write_all(&Hello::named(NAME).records())?;
        client.write_all(&plan.encode())?;
        plan.send_as_client(&client)?;
        Ok(client)
    });
    let decided = || (site.metrics().sum(FALLBACKS, &[]) == 1.0).then_some(());
    eventually(PATIENCE, "the router has decided", decided).unwrap();
    plan.finish_as_client(&client).unwrap();
    counted(&site, "long_hello");
}

#[test]
fn more_connections_than_ports() {
    let prepare = |network: &Network| {
        network.router.set("ipv4/ip_local_port_range", "1024 65535").unwrap();
        network.router.set("ipv4/ip_local_reserved_ports", "20000-20001").unwrap();
    };
    let Some(site) = Site::with("fallbacks", |setup| setup.line("dataPath: CutThrough"), prepare) else { return };
    let beginning = [&Hello::named(NAME).records()[..], &PLAN.encode()].concat();
    let _open = site.at_client(|| site::open(site.address(), &beginning, 3)).unwrap();
    site.wait_until_carried(2);
    let no_port = || (site.metrics().sum(FALLBACKS, &[("reason", "no_port")]) == 1.0).then_some(());
    eventually(PATIENCE, "the reason is counted", no_port).unwrap();
}

/// The only connection was relayed, for this reason.
fn counted(site: &Site, reason: &str) {
    let relayed = || (site.metrics().sum(PATHS, &[]) == 1.0).then_some(());
    eventually(PATIENCE, "the connection was relayed", relayed).unwrap();
    let page = site.network.router.run(|| site.router.admin_get("/metrics")).unwrap().body;
    assert_eq!(site.metrics().sum(FALLBACKS, &[("reason", reason)]), 1.0, "{page}");
    assert_eq!(site.metrics().sum(FALLBACKS, &[]), 1.0);
    assert_eq!(site.metrics().sum(PATHS, &[("path", "cut_through")]), 0.0);
}

/// The kernel accepts for it, acknowledges and keeps what comes.
fn while_the_router_stands_still(site: &Site, work: impl FnOnce() -> Result<TcpStream> + Send) -> TcpStream {
    let router = site.router.router_pid().unwrap();
    suspend(router).unwrap();
    let client = site.network.client.run(|| {
        let client = work()?;
        client.set_read_timeout(Some(PATIENCE))?;
        let local = client.local_addr()?;
        eventually(PATIENCE, "all is acknowledged", || {
            let own = connections().ok()?.into_iter().find(|connection| connection.local == local)?;
            (own.unacknowledged == 0).then_some(())
        })?;
        Ok(client)
    });
    send_signal(router, Signal::SIGCONT).unwrap();
    client.unwrap()
}

/// Sets the feature tcp_usec_ts of the route to this address, for which ip(8) has to be newer than some (rtnetlink(7)).
fn microsecond_timestamps(address: Ipv4Addr, interface: &str) -> Result<()> {
    let attribute = |kind: u16, value: &[u8]| {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes
    };
    let interface = if_nametoindex(interface)?;
    let features = attribute(RTAX_FEATURES, &RTAX_FEATURE_TCP_USEC_TS.to_ne_bytes());
    let attributes = [
        attribute(RTA_DST, &address.octets()),
        attribute(RTA_OIF, &interface.to_ne_bytes()),
        attribute(RTA_METRICS, &features),
    ];
    let route = [AF_INET, 32, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_LINK, RTN_UNICAST, 0, 0, 0, 0];
    let body = [&route[..], &attributes.concat()].concat();
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(RTM_NEWROUTE.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK_REPLACE_CREATE.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    let mut socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_ROUTE)))?;
    socket.send(&message).context("send to rtnetlink")?;
    let mut answer = [0; 256];
    let length = socket.read(&mut answer).context("hear from rtnetlink")?;
    // NLMSG_ERROR, which is an acknowledgement when the error is 0 (netlink(7)).
    let error = answer.get(16..20).filter(|_| length >= 20).context("a short answer")?;
    if error != [0; 4] { bail!("rtnetlink: error {error:?}") } else { Ok(()) }
}

fn cut_through_with(name: &'static str, backend: SocketAddr) -> impl FnOnce(Setup) -> Setup {
    move |setup| setup.line("dataPath: CutThrough").tenant(Tenant::passthrough("own", &[name], backend))
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut stream.try_clone()?, &mut stream)?;
    stream.shutdown(Shutdown::Write)
}

fn exchange(to: SocketAddr, name: &str) {
    let mut client = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let hello = Hello::named(name).records();
    client.write_all(&hello).unwrap();
    let mut answer = vec![0; hello.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, hello);
}

fn greeted(to: SocketAddr) {
    let mut client = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&Hello::named("first.test").records()).unwrap();
    client.read_exact(&mut [0]).unwrap();
    let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
}

/// include/uapi/linux/rtnetlink.h, netlink.h and socket.h.
const AF_INET: u8 = 2;
const AF_NETLINK: i32 = 16;
const NETLINK_ROUTE: i32 = 0;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST_ACK_REPLACE_CREATE: u16 = 0x001 | 0x004 | 0x100 | 0x400;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_METRICS: u16 = 8;
const RTAX_FEATURES: u16 = 12;
const RTAX_FEATURE_TCP_USEC_TS: u32 = 1 << 4;

const PLAN: Plan = Plan { number: 1, turn: Turn::BackendFirst, client_to_backend: 1000, backend_to_client: 1000 };
/// Room for one address, then the end of the list (RFC 791 section 3.1).
const RECORD_ROUTE: [u8; 8] = [7, 7, 4, 0, 0, 0, 0, 0];
