//! Segments of somebody who knows addresses and ports but no sequence numbers end nothing.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};

use super::site::{self, NAME, Plan, Site, Turn, VERDICTS, client_after_hello};

#[test]
fn blind_resets_fins_and_syns_end_nothing() {
    use std::io::Write;
    let Some(site) = Site::new("blind injection", "CutThrough") else { return };
    let plan = Plan { number: 9, turn: Turn::Together, client_to_backend: 3_000_000, backend_to_client: 3_000_000 };
    let believed_not = || site.metrics().sum(VERDICTS, &[("verdict", "not_believed")]);
    site.at_client(|| {
        let mut stream = TcpStream::connect_timeout(&site.address(), PATIENCE).unwrap();
        stream.write_all(&Hello::named(NAME).records()).unwrap();
        stream.write_all(&plan.encode()).unwrap();
        eventually(PATIENCE, "the kernel has the flow", || {
            let metrics = site.metrics();
            let carried = metrics.sum(site::PATHS, &[("path", "cut_through")]) == 1.0;
            (carried && metrics.sum("sni_router_cut_through_opening", &[]) == 0.0).then_some(())
        })
        .unwrap();
        let (SocketAddr::V4(client), SocketAddr::V4(router)) = (stream.local_addr().unwrap(), site.address()) else {
            panic!("IPv4")
        };
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW))).unwrap();
        let mut sequence = 1_u32;
        for round in 0..FORGERIES {
            sequence = sequence.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let flags = [RST, RST | ACK, FIN | ACK, SYN][round % 4];
            let packet = segment(client, router, sequence, sequence.rotate_left(9), flags);
            socket.send_to(&packet, &SocketAddr::from((*router.ip(), 0)).into()).unwrap();
        }
        eventually(PATIENCE, "the forgeries have arrived", || (believed_not() >= 100.0).then_some(())).unwrap();
        client_after_hello(&stream, plan).unwrap();
    });
    let served = || (site.served.load(std::sync::atomic::Ordering::Relaxed) == 1).then_some(());
    eventually(PATIENCE, "the backend has served", served).unwrap();
    assert_eq!(*site.failures.lock().unwrap(), [] as [String; 0]);
    let line = site.router.stdout().unwrap();
    assert!(!line.contains("reset"), "{line}");
}

/// An IPv4 packet with a TCP header and nothing else.
fn segment(from: SocketAddrV4, to: SocketAddrV4, sequence: u32, acknowledgement: u32, flags: u8) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    tcp.extend(acknowledgement.to_be_bytes());
    tcp.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let checksum = checksum(*from.ip(), *to.ip(), &tcp);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    // The kernel fills in length, identification and checksum of the IP header (raw(7)).
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(tcp);
    packet
}

/// RFC 9293 section 3.1.
fn checksum(from: Ipv4Addr, to: Ipv4Addr, tcp: &[u8]) -> u16 {
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 6, 0, tcp.len() as u8]].concat();
    let words = pseudo.chunks(2).chain(tcp.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

const FORGERIES: usize = 400;
const IPPROTO_RAW: i32 = 255;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
