//! Through which interfaces the packets of a connection that begins come and go. A packet may pass several programs on
//! its way, of a bridge and its port, say, or of a bond and its card: the first one's interface is noted. It is the one
//! where a flow's packets are taken, or the one that the routing chose.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use router_common::cut_through::{FlowKey, Sighting};

use super::CUT_SIGHTINGS;

/// A SYN of a client.
#[inline(always)]
pub(super) unsafe fn syn_arrives(interface: u32, key: &FlowKey, sequence: u32) {
    // SAFETY: values of maps stay valid for the duration of the program.
    unsafe {
        let now = now();
        match CUT_SIGHTINGS.get_ptr_mut(key) {
            Some(sighting) if (*sighting).sequence == sequence => arrives(sighting, interface, now),
            _ => {
                let sighting = Sighting { arrives: interface, arrived: now, sequence, ..NOTHING };
                let _ = CUT_SIGHTINGS.insert(key, sighting, 0);
            }
        }
    }
}

/// A SYN of ours.
#[inline(always)]
pub(super) unsafe fn syn_leaves(interface: u32, key: &FlowKey, sequence: u32) {
    // SAFETY: as above.
    unsafe {
        let now = now();
        match CUT_SIGHTINGS.get_ptr_mut(key) {
            Some(sighting) if (*sighting).sequence == sequence => leaves(sighting, interface, now),
            _ => {
                let sighting = Sighting { leaves: interface, left: now, sequence, ..NOTHING };
                let _ = CUT_SIGHTINGS.insert(key, sighting, 0);
            }
        }
    }
}

/// A backend's answer to a SYN of ours.
#[inline(always)]
pub(super) unsafe fn answer_arrives(interface: u32, key: &FlowKey, acknowledgement: u32) {
    // SAFETY: as above.
    unsafe {
        if let Some(sighting) = CUT_SIGHTINGS.get_ptr_mut(key)
            && (*sighting).sequence.wrapping_add(1) == acknowledgement
        {
            arrives(sighting, interface, now());
        }
    }
}

/// Our answer to a SYN of a client.
#[inline(always)]
pub(super) unsafe fn answer_leaves(interface: u32, key: &FlowKey, acknowledgement: u32) {
    // SAFETY: as above.
    unsafe {
        if let Some(sighting) = CUT_SIGHTINGS.get_ptr_mut(key)
            && (*sighting).sequence.wrapping_add(1) == acknowledgement
        {
            leaves(sighting, interface, now());
        }
    }
}

#[inline(always)]
unsafe fn arrives(sighting: *mut Sighting, interface: u32, now: u32) {
    // SAFETY: the callers' sighting is a value of the map.
    unsafe {
        if (*sighting).arrives == 0 || now.wrapping_sub((*sighting).arrived) > SAME_PACKET {
            (*sighting).arrives = interface;
            (*sighting).arrived = now;
        }
    }
}

#[inline(always)]
unsafe fn leaves(sighting: *mut Sighting, interface: u32, now: u32) {
    // SAFETY: as above.
    unsafe {
        if (*sighting).leaves == 0 || now.wrapping_sub((*sighting).left) > SAME_PACKET {
            (*sighting).leaves = interface;
            (*sighting).left = now;
        }
    }
}

#[inline(always)]
unsafe fn now() -> u32 {
    // SAFETY: the helper takes nothing.
    (unsafe { bpf_ktime_get_coarse_ns() } / NANOSECONDS_PER_MILLISECOND) as u32
}

const NOTHING: Sighting = Sighting { arrives: 0, leaves: 0, sequence: 0, arrived: 0, left: 0 };
/// Milliseconds in which a packet has passed all programs. The next one of the same kind is a retransmission, a second
/// later at the earliest (RFC 6298 section 2), and may go another way.
const SAME_PACKET: u32 = 100;
const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;
