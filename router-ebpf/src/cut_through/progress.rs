//! What has been seen of a flow, and what of it is believed. A packet is always sent on: its receiver judges it itself.
//! Here is only judged what it means for the bookkeeping, by the rules by which a receiver would (RFC 9293 section
//! 3.10.7.4, RFC 5961), so that forged packets cannot end it.
//!
//! Two CPUs may run this for one flow at the same time. Every field has one direction that writes it, but for `reset`,
//! which either direction may set or clear as a whole; the counters may thus be off by a packet when one direction's
//! packets change CPUs, and nothing else depends on them.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use router_common::cut_through::{Direction, ENDED, Flow, RESET_EXACT, RESET_PLAUSIBLE, Verdict};

use super::headers::{ACK, FIN, RST, SYN};
use super::{count, report};

/// The fields of a TCP header as its sender means them.
pub(super) struct Segment {
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) window: u16,
    pub(super) payload: u32,
    pub(super) flags: u8,
}

/// Whether nothing can follow but packets sent again.
///
/// # Safety
/// Both are directions of a flow's record.
#[inline(always)]
pub(super) unsafe fn over(this: *const Direction, other: *const Direction) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*this).reset | (*other).reset != 0 || (*this).fin_acknowledged & (*other).fin_acknowledged != 0 }
}

/// Takes note of a segment of direction `this`.
///
/// # Safety
/// `flow` is a flow's record, `this` and `other` are its directions.
#[inline(always)]
pub(super) unsafe fn note(flow: *mut Flow, this: *mut Direction, other: *mut Direction, segment: &Segment, index: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let now = bpf_ktime_get_coarse_ns();
        if (*this).first == 0 {
            (*this).first = now;
            (*this).last = now;
        }
        // Keepalives and the probes of a window that is shut keep no idle connection alive, as they do not under a relay.
        if segment.payload != 0 || segment.flags & (FIN | RST) != 0 {
            (*this).last = now;
        }
        (*this).packets += 1;
        (*this).bytes += u64::from(segment.payload);
        if segment.flags & SYN != 0 {
            // Of an end that has lost its memory; the other one answers it (RFC 5961 section 4).
            count(Verdict::NotBelieved);
            return;
        }
        // The other end's next sequence number and its window, in this end's numbers.
        let next = ((*other).acknowledged as u32).wrapping_sub((*this).sequence_shift);
        if segment.flags & RST != 0 {
            reset(this, other, segment.sequence.wrapping_sub(next), (*this).sent.wrapping_sub(next));
        } else {
            // Whoever answers is alive: the RST was not for it.
            if (*other).reset == RESET_PLAUSIBLE {
                (*other).reset = 0;
            }
            acknowledge(this, other, segment);
            let behind = segment.sequence.wrapping_add(segment.payload);
            send(this, segment, next, behind, (*other).window);
        }
        if over(this, other) && (*flow).ended == 0 {
            (*flow).ended = 1;
            report(index, (*flow).generation, ENDED);
        }
    }
}

/// RFC 5961 section 3.2. `distance` is from the receiver's next sequence number to the RST, `sent` to the end of what
/// was sent: while that is on the way the receiver's next number may be anywhere between.
#[inline(always)]
unsafe fn reset(this: *mut Direction, other: *mut Direction, distance: u32, sent: u32) {
    // SAFETY: the caller of `note` promises it.
    unsafe {
        if distance == 0 {
            // The end that was reset answers so what overtook the RST: the connection is the first one's to have ended.
            if (*other).reset != RESET_EXACT {
                (*this).reset = RESET_EXACT;
            }
        } else if (sent as i32) > 0 && distance <= sent && (*other).reset == 0 {
            (*this).reset = RESET_PLAUSIBLE;
        } else {
            count(Verdict::NotBelieved);
        }
    }
}

/// Moves `acknowledged` forward, unless the segment acknowledges what was never sent (RFC 5961 section 5).
#[inline(always)]
unsafe fn acknowledge(this: *mut Direction, other: *mut Direction, segment: &Segment) {
    // SAFETY: as above.
    unsafe {
        if segment.flags & ACK == 0 {
            return;
        }
        (*this).window = u32::from(segment.window) << ((*this).window_left & 15);
        let in_senders_numbers = segment.acknowledgement.wrapping_add((*this).acknowledgement_shift);
        if (in_senders_numbers.wrapping_sub((*other).sent) as i32) > 0 {
            return;
        }
        let known = core::ptr::read_volatile(&raw const (*this).acknowledged);
        let advance = segment.acknowledgement.wrapping_sub(known as u32);
        if (advance as i32) > 0 {
            // A whole number each time, so that a slower CPU may put it back by a packet but never breaks it.
            let acknowledged = known.wrapping_add(u64::from(advance));
            core::ptr::write_volatile(&raw mut (*this).acknowledged, acknowledged);
        }
        if (*other).fin_seen != 0 && in_senders_numbers == (*other).fin {
            (*this).fin_acknowledged = 1;
        }
    }
}

/// `next` is the receiver's next sequence number, `behind` the number behind the payload.
#[inline(always)]
unsafe fn send(this: *mut Direction, segment: &Segment, next: u32, behind: u32, window: u32) {
    // SAFETY: as above.
    unsafe {
        let fin = segment.flags & FIN != 0;
        if !fin && segment.payload == 0 {
            return;
        }
        if behind.wrapping_sub(next) > window {
            // Sent again, or beyond the window.
            if fin && (*this).fin_seen == 0 {
                count(Verdict::NotBelieved);
            }
            return;
        }
        if (*this).fin_seen != 0 && (behind.wrapping_sub((*this).fin) as i32) >= 0 {
            // Bytes where the FIN was said to be: it was not the sender's.
            (*this).fin_seen = 0;
        }
        let mut end = behind;
        if fin {
            end = behind.wrapping_add(1);
            (*this).fin = end;
            (*this).fin_seen = 1;
        }
        if (end.wrapping_sub((*this).sent) as i32) > 0 {
            (*this).sent = end;
        }
    }
}
