//! Segments of somebody who knows addresses and ports but no sequence numbers end nothing.

use std::io::Write;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::{MsgFlags, sendto};
use socket2::{Domain, Protocol, Socket, Type};
use tests::hello::Hello;
use tests::network::Network;
use tests::patience::{PATIENCE, eventually};
use tests::segment::{ACK, FIN, RST, SYN, Segment};

use super::plan::{Plan, Turn, client_after_hello};
use super::site::{NAME, Site, VERDICTS};

#[test]
fn blind_resets_fins_and_syns_of_the_client_end_nothing() {
    let Some(site) = Site::new("blind injection", "CutThrough") else { return };
    outlives(&site, |client| {
        site.at_client(|| forge(ipv4(client), ipv4(site.address()), &[RST, RST | ACK, FIN | ACK, SYN]));
    });
}

#[test]
fn blind_resets_fins_and_syns_of_the_backend_end_nothing() {
    let Some(site) = Site::new("blind injection", "CutThrough") else { return };
    outlives(&site, |_| {
        site.network
            .backend
            .run(|| {
                let (backend, router) = site.only_connection_of_the_backend()?;
                forge(ipv4(backend), ipv4(router), &[RST, RST | ACK, FIN | ACK, SYN, SYN | ACK]);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn segments_with_a_vlan_tag_are_of_another_network() {
    let Some(site) = Site::new("tagged segments", "CutThrough") else { return };
    outlives(&site, |client| {
        site.at_client(|| {
            let (from, to) = (ipv4(client), ipv4(site.address()));
            tagged(&site.network, from, to);
            // Behind them on the same link, so that the others have arrived when these have.
            forge(from, to, &[RST, RST | ACK, FIN | ACK, SYN]);
        });
    });
    let judged = site.metrics().sum(VERDICTS, &[("verdict", "not_believed")]);
    assert!(judged <= FORGERIES as f64, "{judged} segments were judged: also some of another network");
}

/// Frames with an 802.1Q tag, as a trunk brings them, whose segments have the flow's addresses and ports.
fn tagged(network: &Network, from: SocketAddrV4, to: SocketAddrV4) {
    let link = |interface: &str| {
        let of_it =
            |found: InterfaceAddress| (found.interface_name == interface).then_some(*found.address?.as_link_addr()?);
        getifaddrs().unwrap().find_map(of_it).unwrap()
    };
    let own = link("to-router");
    let routers = network.router.run(|| Ok(link("to-client").addr().unwrap())).unwrap();
    let ethernet = [&routers[..], &own.addr().unwrap(), &[0x81, 0, 0, VLAN, 0x08, 0]].concat();
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
    for round in 0..10 * FORGERIES {
        let sequence = (round as u32).wrapping_mul(1_664_525);
        let segment = Segment { sequence, acknowledgement: sequence, flags: RST | ACK, ..Segment::default() };
        let frame = [&ethernet[..], &segment.packet(from, to)].concat();
        sendto(socket.as_raw_fd(), &frame, &own, MsgFlags::empty()).unwrap();
    }
}

/// Forges while the kernel carries a connection of which nothing but the plan has been sent; all the rest arrives.
fn outlives(site: &Site, forge: impl FnOnce(SocketAddr) + Send) {
    let plan = Plan { number: 9, turn: Turn::Together, client_to_backend: 3_000_000, backend_to_client: 3_000_000 };
    let believed_not = || site.metrics().sum(VERDICTS, &[("verdict", "not_believed")]);
    site.at_client(|| {
        let mut stream = TcpStream::connect_timeout(&site.address(), PATIENCE).unwrap();
        stream.write_all(&Hello::named(NAME).records()).unwrap();
        stream.write_all(&plan.encode()).unwrap();
        site.wait_until_carried(1);
        forge(stream.local_addr().unwrap());
        eventually(PATIENCE, "the forgeries have arrived", || (believed_not() >= 100.0).then_some(())).unwrap();
        client_after_hello(&stream, plan).unwrap();
    });
    let served = || (site.served.load(Ordering::Relaxed) == 1).then_some(());
    eventually(PATIENCE, "the backend has served", served).unwrap();
    assert_eq!(*site.failures.lock().unwrap(), [] as [String; 0]);
    let line = site.router.stdout().unwrap();
    assert!(!line.contains("reset"), "{line}");
}

/// Sends segments that end a connection, with these addresses and ports and with numbers that are guessed.
fn forge(from: SocketAddrV4, to: SocketAddrV4, flags: &[u8]) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW))).unwrap();
    let mut sequence = 1_u32;
    for round in 0..FORGERIES {
        sequence = sequence.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let flags = flags[round % flags.len()];
        let segment = Segment { sequence, acknowledgement: sequence.rotate_left(9), flags, ..Segment::default() };
        socket.send_to(&segment.packet(from, to), &SocketAddr::from((*to.ip(), 0)).into()).unwrap();
    }
}

fn ipv4(address: SocketAddr) -> SocketAddrV4 {
    let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
    address
}

const FORGERIES: usize = 400;
/// The number of the VLAN.
const VLAN: u8 = 7;
const IPPROTO_RAW: i32 = 255;
