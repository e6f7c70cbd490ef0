//! TCP options: timestamps and the edges of SACK blocks are translated, and our own SYN loses what the client lacks.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{
    bpf_csum_diff, bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use router_common::cut_through::{Direction, Verdict, WITHOUT_SACK, WITHOUT_TIMESTAMPS};

use super::headers::{Headers, read};
use super::rewrite::replace;

/// Translates `length` bytes of options and returns the difference for the checksum.
///
/// # Safety
/// `headers` are the packet's, both directions are of the flow's record.
#[inline(always)]
pub(super) unsafe fn translate<const V6: bool>(
    skb: *mut __sk_buff,
    headers: Headers<V6>,
    length: usize,
    this: *mut Direction,
    other: *mut Direction,
) -> Result<u64, Verdict> {
    // SAFETY: the caller's promise; the bounds are checked here.
    unsafe {
        let at = headers.at + Headers::<V6>::FIXED;
        // What nearly all packets have (RFC 7323, appendix A).
        if length == 12 && at + 12 <= headers.end && read::<u32>(at) == NOP_NOP_TIMESTAMPS.to_be() {
            let (value, echo) = (u32::from_be(read(at + 4)), u32::from_be(read(at + 8)));
            let (value, echo) = timestamps(this, other, value, echo);
            return Ok(replace(at + 4, value.to_be()) + replace(at + 8, echo.to_be()));
        }
        let difference = elsewhere(skb, Headers::<V6>::FIXED as u32, length as u32, this, other);
        if difference < 0 { Err(Verdict::Malformed) } else { Ok(difference as u64) }
    }
}

/// Timestamp value and echo as the receiver knows them. The receiver has seen the clock of the socket that was in
/// between, and the last value that it saw cannot be read: the first packet continues that clock.
#[inline(always)]
unsafe fn timestamps(this: *mut Direction, other: *mut Direction, value: u32, echo: u32) -> (u32, u32) {
    // SAFETY: the caller of `translate` promises it; volatile, because other CPUs write them.
    unsafe {
        let mut shift = core::ptr::read_volatile(&raw const (*this).timestamp_shift);
        if shift & KNOWN == 0 {
            let now = (bpf_ktime_get_ns() / NANOSECONDS_PER_MILLISECOND) as u32;
            // Rounding of the offset and of this clock each cost up to one millisecond.
            let first = now.wrapping_add((*this).timestamp_offset).wrapping_add(2);
            shift = KNOWN | u64::from(first.wrapping_sub(value));
            core::ptr::write_volatile(&raw mut (*this).timestamp_shift, shift);
        }
        let back = core::ptr::read_volatile(&raw const (*other).timestamp_shift);
        // 0 says that there is no echo (RFC 7323 section 3.2).
        let echo = if back & KNOWN != 0 && echo != 0 { echo.wrapping_sub(back as u32) } else { 0 };
        (value.wrapping_add(shift as u32), echo)
    }
}

/// Any other layout, over a copy on the stack. The checksum's difference, or a negative number.
#[inline(never)]
unsafe fn elsewhere(skb: *mut __sk_buff, offset: u32, length: u32, this: *mut Direction, other: *mut Direction) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        let shift = (*this).acknowledgement_shift;
        edit(skb, offset, length, |part, at| match part {
            Part::Timestamps => {
                let (value, echo) = timestamps(this, other, word(at.add(2)), word(at.add(6)));
                set_word(at.add(2), value);
                set_word(at.add(6), echo);
            }
            Part::SackEdge => set_word(at, word(at).wrapping_add(shift)),
            Part::SackPermitted => {}
        })
    }
}

/// Turns the options named by `without` into NOPs. The checksum's difference, or a negative number.
///
/// # Safety
/// `skb` is the packet of the running program.
#[inline(never)]
pub(super) unsafe fn leave_out(skb: *mut __sk_buff, offset: u32, length: u32, without: u32) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        edit(skb, offset, length, |part, at| match part {
            Part::Timestamps if without & WITHOUT_TIMESTAMPS != 0 => {
                for index in 0..10 {
                    *at.add(index) = NOP;
                }
            }
            Part::SackPermitted if without & WITHOUT_SACK != 0 => {
                *at = NOP;
                *at.add(1) = NOP;
            }
            _ => {}
        })
    }
}

/// What is changed in some packets.
enum Part {
    /// The whole option.
    Timestamps,
    /// One of up to eight numbers.
    SackEdge,
    /// The whole option.
    SackPermitted,
}

/// Copies the options to the stack, calls `change` with each part of interest and its place, and writes them back.
#[inline(always)]
unsafe fn edit(skb: *mut __sk_buff, offset: u32, length: u32, mut change: impl FnMut(Part, *mut u8)) -> i64 {
    // SAFETY: the caller's promise; the copies are larger than any offset that the masks let through.
    unsafe {
        let mut new = [0_u32; COPY_WORDS];
        let mut old = [0_u32; MAX_WORDS];
        let length = length & 63;
        if length < 4 || length > 40 {
            return -1;
        }
        let bytes = new.as_mut_ptr().cast::<u8>();
        if bpf_skb_load_bytes(skb.cast(), offset, bytes.cast(), length) != 0 {
            return -1;
        }
        for index in 0..MAX_WORDS {
            old[index] = new[index];
        }
        let blur = bpf_get_prandom_u32();
        let mut at = 0_u32;
        let mut edges_until = 0_u32;
        // A step is an option, a NOP or an edge of a SACK block.
        for _ in 0..MAX_WORDS * 4 {
            at = blurred(at, &blur);
            edges_until = blurred(edges_until, &blur);
            if at >= length {
                break;
            }
            let place = bytes.add((at & 63) as usize);
            if at < edges_until {
                if at + 4 <= edges_until {
                    change(Part::SackEdge, place);
                }
                at += 4;
                continue;
            }
            let kind = *place;
            if kind == END {
                break;
            }
            if kind == NOP {
                at += 1;
                continue;
            }
            let option_length = u32::from(*place.add(1));
            if option_length < 2 || at + option_length > length {
                break;
            }
            if kind == SACK {
                edges_until = at + option_length;
                at += 2;
                continue;
            }
            if kind == TIMESTAMPS && option_length == 10 {
                change(Part::Timestamps, place);
            } else if kind == SACK_PERMITTED && option_length == 2 {
                change(Part::SackPermitted, place);
            }
            at += option_length;
        }
        let whole = length & !3;
        let difference = bpf_csum_diff(old.as_mut_ptr(), whole, new.as_mut_ptr(), whole, 0);
        if difference < 0 || bpf_skb_store_bytes(skb.cast(), offset, bytes.cast(), length, 0) != 0 {
            return -1;
        }
        difference
    }
}

/// The same number, of which the verifier forgets what it knew: it would follow every combination of options with its
/// own value otherwise, and there are more than it has patience for.
#[inline(always)]
fn blurred(number: u32, blur: &u32) -> u32 {
    // SAFETY: a reference is valid; two volatile reads, which the compiler does not take for one.
    unsafe {
        let (first, second) = (core::ptr::read_volatile(blur), core::ptr::read_volatile(blur));
        (number ^ first ^ second) & 63
    }
}

#[inline(always)]
unsafe fn word(at: *const u8) -> u32 {
    // SAFETY: the caller's copy has four bytes here.
    unsafe { u32::from(*at) << 24 | u32::from(*at.add(1)) << 16 | u32::from(*at.add(2)) << 8 | u32::from(*at.add(3)) }
}

#[inline(always)]
unsafe fn set_word(at: *mut u8, value: u32) {
    // SAFETY: as above.
    unsafe {
        *at = (value >> 24) as u8;
        *at.add(1) = (value >> 16) as u8;
        *at.add(2) = (value >> 8) as u8;
        *at.add(3) = value as u8;
    }
}

/// A header has up to 60 bytes, 20 of them fixed (RFC 9293 section 3.1).
const MAX_WORDS: usize = 10;
/// Room for a masked index of 63 and the longest part behind it.
const COPY_WORDS: usize = 19;

/// Kinds of options (IANA, TCP parameters).
const END: u8 = 0;
const NOP: u8 = 1;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
const NOP_NOP_TIMESTAMPS: u32 = 0x0101_080a;

const KNOWN: u64 = 1 << 32;
const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;
