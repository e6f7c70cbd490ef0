//! The contract of the programs `cut_through` (tc ingress) and `cut_through_out` (tc egress). A packet's addresses and
//! ports lead to a flow and one of its two directions; the [`Flow`] says how such packets are rewritten and keeps what
//! has been seen of them. The router fills a flow before it publishes its keys; afterwards the programs alone write
//! what is marked as progress.

mod note;

use core::mem::offset_of;

pub use self::note::{NOTES, Note, NumbersAt, TEXT_BYTES};
use crate::{ProgramSet, layout};

/// Its maps and links stay pinned, so that flows outlive the router.
pub const SET: ProgramSet = ProgramSet {
    name: PROGRAM,
    maps: &[KEYS, FLOWS, NOTES, SIGHTINGS, DIALS, EVENTS, VERDICTS],
    layout: layout(&[
        MAX_FLOWS as usize,
        size_of::<FlowKey>(),
        size_of::<Flow>(),
        size_of::<Direction>(),
        size_of::<Sighting>(),
        size_of::<Note>(),
        offset_of!(Flow, directions),
        offset_of!(Flow, pending),
        offset_of!(Flow, connection),
        offset_of!(Direction, flags),
        offset_of!(Direction, acknowledged),
        offset_of!(Direction, fin_seen),
        Verdict::ALL.len(),
        LAYOUT_REVISION,
    ]),
};

/// Changes when fields keep their places and get another meaning.
const LAYOUT_REVISION: usize = 3;

/// The program that translates; also the value of the label `program` in metrics.
pub const PROGRAM: &str = "cut_through";
/// The program that shapes our own SYNs; also the value of the label `program` in metrics.
pub const PROGRAM_OUT: &str = "cut_through_out";

/// [`FlowKey`] to [`reference`].
pub const KEYS: &str = "CUT_KEYS";
/// Array of [`Flow`], mapped into the router.
pub const FLOWS: &str = "CUT_FLOWS";
/// [`FlowKey`] of packets that an end sends to [`Sighting`]; the least recently used make room.
pub const SIGHTINGS: &str = "CUT_SIGHTINGS";
/// [`FlowKey`] of packets that a backend will send, its destination address 0, to the options to leave out of our SYN.
pub const DIALS: &str = "CUT_DIALS";
/// Ring buffer of [`Event`].
pub const EVENTS: &str = "CUT_EVENTS";
/// One `u64` per CPU and [`Verdict`].
pub const VERDICTS: &str = "CUT_VERDICTS";

/// How many flows there can be. A flow has 320 bytes, so that 20 MiB are set aside.
pub const MAX_FLOWS: u32 = 65_536;
/// Half-open connections from which cut-through can still follow: more than a listener's queue holds.
pub const MAX_SIGHTINGS: u32 = 32_768;
/// Of [`EVENTS`], in bytes: both events of a quarter of all flows.
pub const EVENT_BYTES: u32 = 1 << 19;

/// An address in network byte order, IPv4 as in `::ffff:0:0/96` (RFC 4291 section 2.5.5.2), which no packet carries.
pub type Address = [u32; 4];

/// What an arriving packet says of its connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Who sent the packet.
    pub source: Address,
    /// Whom the packet is for.
    pub destination: Address,
    /// Source and destination port as the four bytes on the wire.
    pub ports: u32,
}

/// Through which interfaces packets of a connection come and go, by their indexes; 0 is not known.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Where the end's packets arrive.
    pub arrives: u32,
    /// Where packets for the end leave.
    pub leaves: u32,
    /// The sequence number of the SYN that began it: another connection of the same addresses and ports has another.
    pub sequence: u32,
    /// When `arrives` was noted, CLOCK_MONOTONIC_COARSE in milliseconds.
    pub arrived: u32,
    /// When `leaves` was noted.
    pub left: u32,
}

/// A flow: two TCP connections that are one. The first 16 bytes and [`FlowKey`] with [`reference`] are the same in every
/// layout, so that a router of another version can tell when a flow is over.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Progress: whether [`ENDED`] has been reported.
    pub ended: u32,
    /// The flow is ended when neither end has sent anything for so many milliseconds.
    pub idle_timeout_ms: u32,
    /// Where in the record [`Direction::last`] of each direction is: [`LAST_AT`].
    pub last_at: [u16; 2],
    /// A [`LifeStage`], the router's.
    pub stage: u16,
    /// Progress: whether the program gave the client's key away to a new connection.
    pub client_key_released: u16,
    /// Progress: 1 while the router's own TCP still owes the backend acknowledged bytes; the router sets it, too.
    pub pending: u32,
    /// The sequence number behind those bytes, as the backend will acknowledge it.
    pub hello_end: u32,
    /// Which of the flows that had this place one after the other.
    pub generation: u32,
    /// What the router's own TCP expects next from the backend: it gets none of the backend's bytes.
    pub expected: u32,
    /// The number of the connection in logs.
    pub connection: u64,
    /// When the connection was accepted, milliseconds since 1970.
    pub accepted_unix_ms: u64,
    /// Where each direction's stream began, as the other end acknowledges it.
    pub stream_starts: [u32; 2],
    /// The listener's and the tenant's name, hashed by the router.
    pub names: [u32; 2],
    /// At [`CLIENT`] what the client sends, at [`BACKEND`] what the backend sends.
    pub directions: [Direction; 2],
}

/// What [`Flow::last_at`] is in this layout.
pub const LAST_AT: [u16; 2] = {
    let first = offset_of!(Flow, directions) + offset_of!(Direction, last);
    [first as u16, (first + size_of::<Direction>()) as u16]
};

/// How packets that one end sends become packets for the other end, and what has been seen of them.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// The new source.
    pub source: Address,
    /// The new destination.
    pub destination: Address,
    /// The new ports.
    pub ports: u32,
    /// Ones' complement sum of new minus old addresses (RFC 1624).
    pub address_difference: u32,
    /// The same of the ports.
    pub port_difference: u32,
    /// Added to sequence numbers.
    pub sequence_shift: u32,
    /// Added to acknowledgement numbers and to the edges of SACK blocks.
    pub acknowledgement_shift: u32,
    /// Where the packets leave.
    pub interface: u32,
    /// The clock of timestamps that the receiver knows is CLOCK_MONOTONIC in milliseconds plus this.
    pub timestamp_offset: u32,
    /// Windows are shifted left by this, the scale that the sender announced,
    pub window_left: u8,
    /// and right by this, the scale that was announced to the receiver.
    pub window_right: u8,
    /// [`CLEAR_ECN`] or 0.
    pub flags: u16,
    /// Progress: bit 32 when known; the low 32 bits are added to timestamps.
    pub timestamp_shift: u64,
    /// Progress: the sender's highest acceptable acknowledgement, extended to 64 bits from `stream_starts` of the other
    /// direction on.
    pub acknowledged: u64,
    /// Progress: payload bytes in packets, sent again or not.
    pub bytes: u64,
    /// Progress: packets, or what the network card had merged.
    pub packets: u64,
    /// Progress: the first packet, CLOCK_MONOTONIC_COARSE in nanoseconds; 0 before it.
    pub first: u64,
    /// Progress: the last packet with payload, FIN or RST, or the first one.
    pub last: u64,
    /// Progress: behind the highest sequence number that was sent within the receiver's window.
    pub sent: u32,
    /// Progress: behind the FIN, when `fin_seen`.
    pub fin: u32,
    /// Progress: the window that the sender announced last, in bytes.
    pub window: u32,
    /// Progress: whether the sender has sent a FIN within the receiver's window.
    pub fin_seen: u8,
    /// Progress: whether the sender has acknowledged the other end's FIN.
    pub fin_acknowledged: u8,
    /// Progress: [`RESET_PLAUSIBLE`] or [`RESET_EXACT`] after a RST of the sender.
    pub reset: u8,
    /// Always 0.
    pub zero: u8,
}

/// What the programs tell the router.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The flow's place.
    pub flow: u32,
    /// [`Flow::generation`].
    pub generation: u32,
    /// [`HELLO_ACKNOWLEDGED`] or [`ENDED`].
    pub kind: u32,
    /// Always 0.
    pub zero: u32,
}

/// How far the router is with a flow; a router that takes it over has to know.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeStage {
    /// No flow.
    Free = 0,
    /// The router's sockets still exist.
    Opening = 1,
    /// The programs alone carry it.
    Carried = 2,
    /// It is over, and who wants to know has been told; its packets may come again for a while.
    Told = 3,
    /// Somebody wants it to end: whoever accompanies it resets both ends.
    Ending = 4,
}

/// What became of a packet of a flow.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Translated and sent on.
    Forwarded = 0,
    /// Acknowledged bytes that the router's own TCP had sent: given to it.
    Acknowledged = 1,
    /// A new connection from the client's old address and port: given to the router.
    NewConnection = 2,
    /// A RST or FIN outside of what the receiver would believe (RFC 5961): sent on, nothing concluded.
    NotBelieved = 3,
    /// The TCP header is cut off or nonsense: dropped.
    Malformed = 4,
    /// Its TTL or hop limit is used up: dropped.
    Expired = 5,
    /// A fragment or a packet with IP options: dropped, because the local TCP would answer it with a RST.
    Unsupported = 6,
    /// An ICMP error about a packet of ours: translated for the end that caused it.
    IcmpTranslated = 7,
    /// The flow's record is missing: dropped.
    NoFlow = 8,
    /// Our SYN left without the options that the client lacks.
    SynShaped = 9,
    /// Our SYN left as it was.
    SynKept = 10,
    /// A RST of ours that ends a flow left.
    Ended = 11,
}

impl Verdict {
    /// All verdicts, each at the position of its discriminant.
    pub const ALL: [Self; 12] = [
        Self::Forwarded,
        Self::Acknowledged,
        Self::NewConnection,
        Self::NotBelieved,
        Self::Malformed,
        Self::Expired,
        Self::Unsupported,
        Self::IcmpTranslated,
        Self::NoFlow,
        Self::SynShaped,
        Self::SynKept,
        Self::Ended,
    ];

    /// The value of the label `verdict` in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Acknowledged => "acknowledged",
            Self::NewConnection => "new_connection",
            Self::NotBelieved => "not_believed",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Unsupported => "unsupported",
            Self::IcmpTranslated => "icmp_translated",
            Self::NoFlow => "no_flow",
            Self::SynShaped => "syn_shaped",
            Self::SynKept => "syn_kept",
            Self::Ended => "ended",
        }
    }

    /// The value of the label `program` in metrics.
    pub fn program(self) -> &'static str {
        match self {
            Self::SynShaped | Self::SynKept | Self::Ended => PROGRAM_OUT,
            _ => PROGRAM,
        }
    }
}

/// The value in [`KEYS`] for a flow's place and direction.
#[inline]
pub const fn reference(flow: u32, direction: usize) -> u32 {
    flow << 1 | (direction as u32 & 1)
}

/// What the client sends.
pub const CLIENT: usize = 0;
/// What the backend sends.
pub const BACKEND: usize = 1;

/// ECN was agreed upon on one of the two connections only: both ends see a path without it (RFC 3168).
pub const CLEAR_ECN: u16 = 1;

/// The receiver will answer with a challenge unless something is still on the way to it (RFC 5961 section 3.2).
pub const RESET_PLAUSIBLE: u8 = 1;
/// The receiver's next sequence number: it is gone.
pub const RESET_EXACT: u8 = 2;

/// The backend has acknowledged all that the router's own TCP had sent.
pub const HELLO_ACKNOWLEDGED: u32 = 1;
/// Both FINs are acknowledged, or an end has sent a RST.
pub const ENDED: u32 = 2;

/// In [`DIALS`]: no timestamps (RFC 7323).
pub const WITHOUT_TIMESTAMPS: u32 = 1;
/// In [`DIALS`]: no SACK-permitted (RFC 2018).
pub const WITHOUT_SACK: u32 = 2;
/// In [`DIALS`], with a port in the upper 16 bits: a RST of ours leaves from that port. The router may not bind the
/// ports of its listeners any more when it ends a flow.
pub const SENT_FROM: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_have_no_padding() {
        assert_eq!((size_of::<FlowKey>(), align_of::<FlowKey>()), (16 + 16 + 4, 4));
        assert_eq!((size_of::<Sighting>(), align_of::<Sighting>()), (20, 4));
        assert_eq!((size_of::<Event>(), align_of::<Event>()), (16, 4));
        assert_eq!((size_of::<Direction>(), offset_of!(Direction, zero)), (128, 127));
        assert_eq!((offset_of!(Direction, flags), offset_of!(Direction, timestamp_shift)), (62, 64));
        assert_eq!((size_of::<Flow>(), offset_of!(Flow, directions)), (64 + 2 * 128, 64));
        assert_eq!((offset_of!(Flow, connection), offset_of!(Flow, names)), (32, 56));
    }

    #[test]
    fn what_routers_of_other_versions_read_never_moves() {
        assert_eq!((offset_of!(Flow, ended), offset_of!(Flow, idle_timeout_ms)), (0, 4));
        assert_eq!((offset_of!(Flow, last_at), offset_of!(Flow, stage)), (8, 12));
        assert_eq!((LifeStage::Free as u16, LifeStage::Opening as u16, LifeStage::Carried as u16), (0, 1, 2));
        assert_eq!(
            (offset_of!(FlowKey, source), offset_of!(FlowKey, destination), offset_of!(FlowKey, ports)),
            (0, 16, 32)
        );
        assert_eq!(usize::from(LAST_AT[BACKEND]), offset_of!(Flow, directions) + 128 + offset_of!(Direction, last));
    }

    #[test]
    fn verdicts_are_positions() {
        assert!(Verdict::ALL.iter().enumerate().all(|(position, verdict)| position == *verdict as usize));
    }

    #[test]
    fn names_fit_the_kernel() {
        // BPF_OBJ_NAME_LEN (include/uapi/linux/bpf.h) is 16 with the NUL.
        let names = [PROGRAM, PROGRAM_OUT, KEYS, FLOWS, NOTES, SIGHTINGS, DIALS, EVENTS, VERDICTS];
        assert!(names.iter().all(|name| name.len() < 16));
    }

    #[test]
    fn a_reference_names_flow_and_direction() {
        assert_eq!(reference(0, CLIENT), 0);
        assert_eq!(reference(MAX_FLOWS - 1, BACKEND), (MAX_FLOWS - 1) * 2 + 1);
    }
}
