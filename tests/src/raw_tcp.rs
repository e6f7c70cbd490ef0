//! A TCP client of our own, on an address that the place's kernel does not know, so that nothing but this decides what
//! is sent. It loses nothing, expects that nothing is lost, and keeps what arrives in order.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::network::Network;
use crate::patience::PATIENCE;
use crate::segment::{ACK, FIN, RST, SYN, Segment};

/// An established connection; make and use it on a thread of the client's place.
pub struct RawTcp {
    from: SocketAddrV4,
    to: SocketAddrV4,
    sender: Socket,
    receiver: Socket,
    /// The number of the first byte of our stream.
    start: u32,
    /// The number behind the last byte of our stream that was sent.
    next: u32,
    /// The number of the next byte of the peer's stream.
    expected: u32,
    /// The highest number that the peer has acknowledged.
    acknowledged: u32,
    received: Vec<u8>,
    ended: bool,
}

impl RawTcp {
    /// The client's address; [`prepare`](Self::prepare) leads packets for it to the client.
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 77);

    /// Tells the router's host where the address is.
    pub fn prepare(network: &Network) -> Result<()> {
        let mac = network.client.run(|| mac_of("to-router"))?;
        network.router.ip(&format!("neigh replace {} lladdr {mac} dev to-client nud permanent", Self::ADDRESS))
    }

    /// Shakes hands.
    pub fn connect(port: u16, to: SocketAddr) -> Result<Self> {
        Self::connect_with_ip_options(port, to, &[])
    }

    /// The same; the SYN has these options of IPv4.
    pub fn connect_with_ip_options(port: u16, to: SocketAddr, ip_options: &[u8]) -> Result<Self> {
        let SocketAddr::V4(to) = to else { bail!("{to} is not IPv4") };
        // A packet socket sees what the place's kernel drops, a raw one may send from any address (packet(7), raw(7)).
        let receiver = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(ETH_P_IP.to_be()))))?;
        receiver.set_read_timeout(Some(POLL))?;
        let sender = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
        let start = 1_000_000_007;
        let from = SocketAddrV4::new(Self::ADDRESS, port);
        let mut connection = Self {
            from,
            to,
            sender,
            receiver,
            start,
            next: start,
            expected: 0,
            acknowledged: start - 1,
            received: Vec::new(),
            ended: false,
        };
        // The maximum segment size alone (RFC 9293 section 3.2).
        let options = vec![2, 4, 5, 180];
        let syn = Segment { sequence: start - 1, flags: SYN, options, ..Segment::default() };
        connection.send_packet(&syn.packet_with_ip_options(from, to, ip_options))?;
        let answer = connection.segment("an answer to the SYN", |segment| segment.flags & (SYN | ACK) == SYN | ACK)?;
        connection.expected = answer.sequence.wrapping_add(1);
        connection.acknowledged = answer.acknowledgement;
        connection.acknowledge()?;
        Ok(connection)
    }

    /// Sends these bytes as the next ones of the stream, in segments of ordinary size.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(1400) {
            let at = self.written();
            self.write_at(at, part)?;
        }
        Ok(())
    }

    /// How many bytes the stream has so far.
    pub fn written(&self) -> u32 {
        self.next.wrapping_sub(self.start)
    }

    /// Sends one segment of these bytes, the first of which is the stream's byte `offset`; sent before or not.
    pub fn write_at(&mut self, offset: u32, bytes: &[u8]) -> Result<()> {
        let sequence = self.start.wrapping_add(offset);
        let behind = sequence.wrapping_add(bytes.len() as u32);
        if behind.wrapping_sub(self.next).cast_signed() > 0 {
            self.next = behind;
        }
        let payload = bytes.to_vec();
        self.send(&Segment { sequence, acknowledgement: self.expected, flags: ACK, payload, ..Segment::default() })
    }

    /// Waits until the peer has acknowledged all.
    pub fn flush(&mut self) -> Result<()> {
        let all = self.next;
        let deadline = Instant::now() + PATIENCE;
        while self.acknowledged != all {
            self.take(deadline, "an acknowledgement of all")?;
        }
        Ok(())
    }

    /// Ends our stream.
    pub fn finish(&mut self) -> Result<()> {
        let (sequence, acknowledgement) = (self.next, self.expected);
        self.next = self.next.wrapping_add(1);
        self.send(&Segment { sequence, acknowledgement, flags: FIN | ACK, ..Segment::default() })
    }

    /// What has arrived since the last call; waits for a byte or the end.
    pub fn read(&mut self) -> Result<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        while self.received.is_empty() && !self.ended {
            self.take(deadline, "bytes of the peer")?;
        }
        Ok(std::mem::take(&mut self.received))
    }

    /// Takes the next segment of the connection into account.
    fn take(&mut self, deadline: Instant, what: &str) -> Result<()> {
        let segment = self.next_segment(deadline, what)?;
        if segment.flags & RST != 0 {
            bail!("a reset instead of {what}");
        }
        if segment.acknowledgement.wrapping_sub(self.acknowledged).cast_signed() > 0 {
            self.acknowledged = segment.acknowledgement;
        }
        let fin = segment.flags & FIN != 0;
        if segment.payload.is_empty() && !fin {
            return Ok(());
        }
        if segment.sequence == self.expected {
            self.expected = self.expected.wrapping_add(segment.payload.len() as u32 + u32::from(fin));
            self.ended |= fin;
            self.received.extend(segment.payload);
        }
        self.acknowledge()
    }

    fn segment(&mut self, what: &str, wanted: impl Fn(&Segment) -> bool) -> Result<Segment> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let segment = self.next_segment(deadline, what)?;
            if wanted(&segment) {
                return Ok(segment);
            }
        }
    }

    fn next_segment(&mut self, deadline: Instant, what: &str) -> Result<Segment> {
        let mut packet = vec![0; 65_536];
        while Instant::now() < deadline {
            let Ok(length) = self.receiver.read(&mut packet) else { continue };
            match Segment::of(&packet[..length]) {
                Some((from, to, segment)) if (from, to) == (self.to, self.from) => return Ok(segment),
                _ => {}
            }
        }
        bail!("not within {PATIENCE:?}: {what}")
    }

    fn acknowledge(&self) -> Result<()> {
        let (sequence, acknowledgement) = (self.next, self.expected);
        self.send(&Segment { sequence, acknowledgement, flags: ACK, ..Segment::default() })
    }

    fn send(&self, segment: &Segment) -> Result<()> {
        self.send_packet(&segment.packet(self.from, self.to))
    }

    fn send_packet(&self, packet: &[u8]) -> Result<()> {
        let to = SocketAddr::from((*self.to.ip(), 0)).into();
        self.sender.send_to(packet, &to).context("send a packet")?;
        Ok(())
    }
}

/// By ip(8): /sys shows the interfaces of the namespace in which it was mounted.
fn mac_of(interface: &str) -> Result<String> {
    let done = std::process::Command::new("ip").args(["-o", "link", "show", interface]).output().context("start ip")?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether").skip(1);
    words.next().map(str::to_owned).with_context(|| format!("no link/ether in {text:?}"))
}

/// include/uapi/linux/if_ether.h.
const ETH_P_IP: u16 = 0x0800;
const IPPROTO_RAW: i32 = 255;
const POLL: Duration = Duration::from_millis(100);
