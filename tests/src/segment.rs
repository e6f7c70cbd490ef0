//! TCP segments in IPv4 packets, made and read by hand: for what no TCP of an operating system would send.

use std::net::{Ipv4Addr, SocketAddrV4};

/// A segment without options, but for those that are given as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The number of its first byte.
    pub sequence: u32,
    /// What it acknowledges, if [`ACK`] is set.
    pub acknowledgement: u32,
    /// [`FIN`] and its neighbours.
    pub flags: u8,
    /// Padded to whole words with zeroes (end of options).
    pub options: Vec<u8>,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Segment {
    /// As a packet for a raw socket (raw(7)), which fills in length, identification and checksum of the IP header.
    pub fn packet(&self, from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
        self.packet_with_ip_options(from, to, &[])
    }

    /// The same, with options of IPv4 (RFC 791 section 3.1), whole words of them.
    pub fn packet_with_ip_options(&self, from: SocketAddrV4, to: SocketAddrV4, ip_options: &[u8]) -> Vec<u8> {
        let options = self.options.len().next_multiple_of(4);
        let mut tcp = Vec::new();
        tcp.extend(from.port().to_be_bytes());
        tcp.extend(to.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgement.to_be_bytes());
        tcp.extend([(((FIXED + options) / 4) << 4) as u8, self.flags]);
        tcp.extend([0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(&self.options);
        tcp.resize(FIXED + options, 0);
        tcp.extend(&self.payload);
        let checksum = checksum(*from.ip(), *to.ip(), &tcp);
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        let header = IPV4 + ip_options.len();
        let mut packet = vec![0x40 | (header / 4) as u8, 0];
        packet.extend(((header + tcp.len()) as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, TCP, 0, 0]);
        packet.extend(from.ip().octets());
        packet.extend(to.ip().octets());
        packet.extend(ip_options);
        packet.extend(tcp);
        packet
    }

    /// The segment of an IPv4 packet, and whose it is; `None` for everything else.
    pub fn of(packet: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, Self)> {
        let header = usize::from(packet.first()? & 15) * 4;
        let length = usize::from(half(packet, 2)?);
        if packet[0] >> 4 != 4 || *packet.get(9)? != TCP || header < IPV4 {
            return None;
        }
        let tcp = packet.get(header..length)?;
        let offset = usize::from(*tcp.get(12)? >> 4) * 4;
        let segment = Self {
            sequence: word(tcp, 4)?,
            acknowledgement: word(tcp, 8)?,
            flags: *tcp.get(13)?,
            options: tcp.get(FIXED..offset)?.to_vec(),
            payload: tcp.get(offset..)?.to_vec(),
        };
        let address = |at: usize| Some(Ipv4Addr::from(word(packet, at)?));
        let from = SocketAddrV4::new(address(12)?, half(tcp, 0)?);
        Some((from, SocketAddrV4::new(address(16)?, half(tcp, 2)?), segment))
    }
}

/// RFC 9293 section 3.1.
pub fn checksum(from: Ipv4Addr, to: Ipv4Addr, tcp: &[u8]) -> u16 {
    let length = (tcp.len() as u16).to_be_bytes();
    let pseudo = [&from.octets()[..], &to.octets(), &[0, TCP], &length].concat();
    sum(&[&pseudo, tcp])
}

/// The complement of the ones' complement sum of all words; each part but the last has an even length.
pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(half(bytes, at)?) << 16 | u32::from(half(bytes, at + 2)?))
}

/// Flags (RFC 9293 section 3.1).
pub const FIN: u8 = 1;
/// Begins a connection.
pub const SYN: u8 = 2;
/// Ends it at once.
pub const RST: u8 = 4;
/// The acknowledgement counts.
pub const ACK: u8 = 16;

/// IPPROTO_TCP.
const TCP: u8 = 6;
/// Lengths of headers without options.
const IPV4: usize = 20;
const FIXED: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_as_it_was_made() {
        let (from, to) = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:443".parse().unwrap());
        let segment = Segment {
            sequence: 7,
            acknowledgement: u32::MAX,
            flags: ACK | FIN,
            options: vec![2, 4, 5, 180],
            payload: b"odd".to_vec(),
        };
        let packet = segment.packet(from, to);
        assert_eq!(Segment::of(&packet), Some((from, to, segment)));
        // Over a right checksum the sum of all is zero.
        assert_eq!(checksum(*from.ip(), *to.ip(), &packet[20..]), 0);
    }
}
