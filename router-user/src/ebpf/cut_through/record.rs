//! From what two sockets say to the record of a flow: shifts, scales and checksum differences. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use router_common::cut_through::{
    Address, BACKEND, CLEAR_ECN, CLIENT, Direction, Flow, FlowKey, LAST_AT, LifeStage, Note, Sighting,
};
use router_common::name_hash;

use super::note::Known;
use super::raw::{ConnectionInfo, ECN, contract_address};

/// One connection of the two, as its socket sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    /// The client or the backend.
    pub(super) peer: SocketAddr,
    /// Our own address towards it.
    pub(super) local: SocketAddr,
    /// TCP_INFO.
    pub(super) info: ConnectionInfo,
    /// What repair mode says.
    pub(super) numbers: Numbers,
    /// Bytes before `numbers.receive` that nobody has read; an inbound PROXY header has been.
    pub(super) unread: u32,
    /// Where its packets come and go.
    pub(super) sighting: Sighting,
}

/// The numbers of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    /// The next sequence number that we would send.
    pub(super) send: u32,
    /// The next sequence number that we expect.
    pub(super) receive: u32,
    /// What our timestamps are ahead of CLOCK_MONOTONIC in milliseconds.
    pub(super) timestamp_offset: u32,
}

impl Side {
    pub(super) fn key(&self) -> FlowKey {
        key(self.peer, self.local)
    }

    /// The sequence number of the SYN of the connection, if the peer began it.
    pub(super) fn peers_syn(&self) -> u32 {
        self.numbers.receive.wrapping_sub(self.info.received as u32).wrapping_sub(1)
    }

    /// The same if we began it.
    pub(super) fn own_syn(&self) -> u32 {
        self.numbers.send.wrapping_sub(self.info.unsent).wrapping_sub(self.info.sent as u32).wrapping_sub(1)
    }

    /// The number of the first byte that is the other end's to have.
    pub(super) fn stream_start(&self) -> u32 {
        self.numbers.receive.wrapping_sub(self.unread)
    }
}

/// What arrives from a peer.
pub(super) fn key(peer: SocketAddr, local: SocketAddr) -> FlowKey {
    FlowKey {
        source: contract_address(peer.ip()),
        destination: contract_address(local.ip()),
        ports: ports(peer.port(), local.port()),
    }
}

/// What the answers of a backend will look like before our own address is known.
pub(super) fn dial_key(backend: SocketAddr, port: u16) -> FlowKey {
    FlowKey { source: contract_address(backend.ip()), destination: [0; 4], ports: ports(backend.port(), port) }
}

/// What the router knows of a connection beyond its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its number in logs.
    pub connection: u64,
    /// When it was accepted, milliseconds since 1970.
    pub accepted_unix_ms: u64,
    /// The listener's and the tenant's name, hashed.
    pub names: [u32; 2],
}

/// A connection that is about to be switched.
#[derive(Debug, Default)]
pub struct Described {
    /// For the flow's record.
    pub identity: Identity,
    /// For who adopts the flow.
    pub note: Option<Box<Note>>,
}

impl Identity {
    pub(super) fn of(flow: &Flow) -> Self {
        Self { connection: flow.connection, accepted_unix_ms: flow.accepted_unix_ms, names: flow.names }
    }

    /// Of a flow whose record cannot be read.
    pub(super) fn noted(note: &Note, known: &Known) -> Self {
        let names = [name_hash(&known.listener), name_hash(&known.tenant)];
        Self { connection: note.connection, accepted_unix_ms: note.accepted_unix_ms, names }
    }
}

/// The record. The client's bytes up to `client.numbers.receive` still have to be sent by our own TCP.
pub(super) fn flow(
    client: &Side,
    backend: &Side,
    identity: &Identity,
    generation: u32,
    idle_timeout: Duration,
) -> Flow {
    // The first byte of the client's stream has the first number that we send to the backend.
    let stream_start = client.stream_start();
    let forward = backend.numbers.send.wrapping_sub(stream_start);
    let back = client.numbers.send.wrapping_sub(backend.numbers.receive);
    let flags = if (client.info.options ^ backend.info.options) & ECN == 0 { 0 } else { CLEAR_ECN };
    let mut directions = [Direction::default(); 2];
    directions[CLIENT] = Direction {
        flags,
        acknowledged: u64::from(client.numbers.send),
        sent: client.numbers.receive,
        ..direction(client, backend, forward, back)
    };
    directions[BACKEND] = Direction {
        flags,
        acknowledged: u64::from(backend.numbers.send),
        sent: backend.numbers.receive,
        ..direction(backend, client, back, forward)
    };
    Flow {
        directions,
        pending: 1,
        hello_end: client.numbers.receive.wrapping_add(forward),
        generation,
        ended: 0,
        client_key_released: 0,
        stage: LifeStage::Opening as u16,
        connection: identity.connection,
        accepted_unix_ms: identity.accepted_unix_ms,
        stream_starts: [backend.numbers.send, client.numbers.send],
        names: identity.names,
        expected: backend.numbers.receive,
        idle_timeout_ms: idle_timeout.as_millis().try_into().unwrap_or(u32::MAX),
        last_at: LAST_AT,
    }
}

/// As the configuration had it when the flow began; what is longer than seven weeks is for ever.
pub(super) fn idle_timeout(flow: &Flow) -> Duration {
    match flow.idle_timeout_ms {
        u32::MAX => Duration::MAX,
        milliseconds => Duration::from_millis(milliseconds.into()),
    }
}

/// Bytes that the other end has acknowledged in each direction, and so has got.
pub(super) fn delivered(flow: &Flow) -> [u64; 2] {
    let acknowledged = flow.directions.map(|direction| direction.acknowledged);
    delivered_of(acknowledged, flow.stream_starts, flow.directions.map(|direction| direction.fin_acknowledged))
}

/// The same of its numbers.
pub(super) fn delivered_of(acknowledged: [u64; 2], stream_starts: [u32; 2], fin_acknowledged: [u8; 2]) -> [u64; 2] {
    let of = |from: usize, to: usize| {
        let start = u64::from(stream_starts[from]);
        acknowledged[to].wrapping_sub(start).saturating_sub(fin_acknowledged[to].into())
    };
    [of(CLIENT, BACKEND), of(BACKEND, CLIENT)]
}

/// What arrives from `from` and leaves for `to`; `shift` is added to its sequence numbers, `back` to the other end's.
fn direction(from: &Side, to: &Side, shift: u32, back: u32) -> Direction {
    let old = from.key();
    let (source, destination) = (contract_address(to.local.ip()), contract_address(to.peer.ip()));
    let new_ports = ports(to.local.port(), to.peer.port());
    Direction {
        source,
        destination,
        ports: new_ports,
        address_difference: fold(difference(&old.source, &source) + difference(&old.destination, &destination)),
        port_difference: fold(word_difference(old.ports, new_ports)),
        sequence_shift: shift,
        acknowledgement_shift: 0_u32.wrapping_sub(back),
        interface: to.sighting.leaves,
        timestamp_offset: to.numbers.timestamp_offset,
        // RFC 7323 section 2.3 allows no more than 14.
        window_left: from.info.send_scale.min(14),
        window_right: to.info.receive_scale.min(14),
        // Until the end speaks for itself, nothing is beyond its window.
        window: LARGEST_WINDOW,
        ..Direction::default()
    }
}

fn ports(source: u16, destination: u16) -> u32 {
    let (source, destination) = (source.to_be_bytes(), destination.to_be_bytes());
    u32::from_ne_bytes([source[0], source[1], destination[0], destination[1]])
}

fn difference(old: &Address, new: &Address) -> u64 {
    old.iter().zip(new).map(|(old, new)| word_difference(*old, *new)).sum()
}

/// RFC 1624: the complement of the old plus the new.
fn word_difference(old: u32, new: u32) -> u64 {
    u64::from(!old) + u64::from(new)
}

fn fold(mut sum: u64) -> u32 {
    while sum >> 32 != 0 {
        sum = (sum & 0xffff_ffff) + (sum >> 32);
    }
    sum as u32
}

/// 2^30 less than one, the largest that scaling allows (RFC 7323 section 2.3).
const LARGEST_WINDOW: u32 = (1 << 30) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn side(peer: &str, local: &str, send: u32, receive: u32, unread: u32) -> Side {
        Side {
            peer: peer.parse().unwrap(),
            local: local.parse().unwrap(),
            info: ConnectionInfo { send_scale: 7, receive_scale: 9, ..ConnectionInfo::default() },
            numbers: Numbers { send, receive, timestamp_offset: 5 },
            unread,
            sighting: Sighting { arrives: 2, leaves: 3, ..Sighting::default() },
        }
    }

    #[test]
    fn numbers_of_one_connection_become_those_of_the_other() {
        let client = side("10.0.1.2:40000", "10.0.1.1:443", 1000, 500_100, 100);
        let backend = side("10.0.2.2:8443", "10.0.2.1:20000", u32::MAX - 49, 7000, 0);
        let flow = flow(&client, &backend, &Identity::default(), 1, Duration::from_secs(600));
        // The client's byte 100 is the backend's byte 100.
        assert_eq!(500_100_u32.wrapping_add(flow.directions[CLIENT].sequence_shift), 50);
        assert_eq!(flow.hello_end, 50);
        // The backend's first byte is the first that the client gets.
        assert_eq!(7000_u32.wrapping_add(flow.directions[BACKEND].sequence_shift), 1000);
        // Acknowledgements go the way back.
        assert_eq!(50_u32.wrapping_add(flow.directions[BACKEND].acknowledgement_shift), 500_100);
        assert_eq!(1000_u32.wrapping_add(flow.directions[CLIENT].acknowledgement_shift), 7000);
    }

    #[test]
    fn checksum_differences_are_what_rfc_1624_wants() {
        let client = side("10.0.1.2:40000", "10.0.1.1:443", 0, 0, 0);
        let backend = side("10.0.2.2:8443", "10.0.2.1:20000", 0, 0, 0);
        let flow = flow(&client, &backend, &Identity::default(), 1, Duration::from_secs(600));
        let sum16 = |words: &[u32]| {
            let mut sum = words.iter().map(|word| u64::from(word >> 16) + u64::from(word & 0xffff)).sum::<u64>();
            while sum >> 16 != 0 {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            sum as u16
        };
        for (direction, side) in [(CLIENT, &client), (BACKEND, &backend)] {
            let (record, key) = (&flow.directions[direction], side.key());
            let old = sum16(&[&key.source[..], &key.destination, &[key.ports]].concat());
            let new = sum16(&[&record.source[..], &record.destination, &[record.ports]].concat());
            let moved = sum16(&[u32::from(old), record.address_difference, record.port_difference]);
            assert_eq!(moved, new);
        }
    }

    #[test]
    fn what_is_acknowledged_is_delivered_and_a_fin_is_no_byte() {
        let client = side("10.0.1.2:40000", "10.0.1.1:443", 1000, 500_100, 100);
        let backend = side("10.0.2.2:8443", "10.0.2.1:20000", 9, 7000, 0);
        let mut flow = flow(&client, &backend, &Identity::default(), 1, Duration::from_secs(600));
        assert_eq!(delivered(&flow), [0, 0]);
        flow.directions[BACKEND].acknowledged += 101;
        flow.directions[BACKEND].fin_acknowledged = 1;
        flow.directions[CLIENT].acknowledged += 5_000_000_000;
        assert_eq!(delivered(&flow), [100, 5_000_000_000]);
    }
}
