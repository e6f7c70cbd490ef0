//! Turns a packet of one connection into the same packet of the other one, checksums included. Packets that the network
//! card or the kernel has merged stay whole.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{bpf_csum_update, bpf_l4_csum_replace};
use router_common::cut_through::{Address, CLEAR_ECN, Direction, Verdict};

use super::headers::{ACK, Headers, SYN, read, write};
use super::options;
use super::progress::Segment;

/// Rewrites the headers in place; the verdict is why that is not possible.
///
/// # Safety
/// `headers` are the packet's, both directions are of the flow's record.
#[inline(always)]
pub(super) unsafe fn rewrite<const V6: bool>(
    skb: *mut __sk_buff,
    headers: Headers<V6>,
    this: *mut Direction,
    other: *mut Direction,
    segment: &Segment,
    tcp_length: usize,
) -> Result<(), Verdict> {
    // SAFETY: the caller's promise; the verifier checks each offset against the length that `headers` has checked.
    unsafe {
        let at = headers.at;
        let tcp = at + Headers::<V6>::TCP;
        if hops::<V6>(at) <= 1 {
            return Err(Verdict::Expired);
        }
        // Ones' complement sum of all that changes under TCP's checksum but for the addresses (RFC 1624).
        let mut sum = u64::from((*this).port_difference);
        write(tcp, (*this).ports);
        let sequence = segment.sequence.wrapping_add((*this).sequence_shift);
        sum += replace(tcp + 4, sequence.to_be());
        if segment.flags & ACK != 0 {
            sum += replace(tcp + 8, segment.acknowledgement.wrapping_add((*this).acknowledgement_shift).to_be());
        }
        if segment.flags & SYN == 0 {
            let window = u32::from(segment.window) << ((*this).window_left & 15) >> ((*this).window_right & 15);
            sum += replace_half(tcp + 14, (if window > 0xffff { 0xffff } else { window as u16 }).to_be());
        }
        let clear_ecn = (*this).flags & CLEAR_ECN != 0;
        if clear_ecn && segment.flags & SYN == 0 {
            let flags: u16 = read(tcp + 12);
            sum += replace_half(tcp + 12, flags & !ECE_AND_CWR.to_be());
        }
        let ip_changes = if V6 { ipv6(at, this, clear_ecn) } else { ipv4(at, this, clear_ecn) };
        if tcp_length > 20 {
            sum += options::translate::<V6>(skb, headers, tcp_length - 20, this, other)?;
        }
        // The pseudo header's part also where the network card still has to sum up (CHECKSUM_PARTIAL), the rest only
        // where the sum is complete.
        let checksum = (Headers::<V6>::TCP + 16) as u32;
        let addresses = u64::from((*this).address_difference);
        let pseudo = if V6 { PSEUDO_HEADER | IPV6 } else { PSEUDO_HEADER };
        if bpf_l4_csum_replace(skb, checksum, 0, addresses, pseudo) != 0 && V6 {
            // Kernels before 6.16 do not know the flag; they are right unless the card gave a sum of the whole packet.
            bpf_l4_csum_replace(skb, checksum, 0, addresses, PSEUDO_HEADER);
        }
        bpf_l4_csum_replace(skb, checksum, 0, u64::from(fold32(sum)), 0);
        if V6 {
            // No checksum of its own in the header makes up for these changes in a sum of the whole packet.
            bpf_csum_update(skb, fold32(ip_changes));
        }
        Ok(())
    }
}

#[inline(always)]
unsafe fn hops<const V6: bool>(at: usize) -> u8 {
    // SAFETY: the caller of `rewrite` promises it.
    unsafe { read(at + if V6 { 21 } else { 22 }) }
}

/// Addresses, TTL, ECN and the header's checksum.
#[inline(always)]
unsafe fn ipv4(at: usize, this: *const Direction, clear_ecn: bool) -> u64 {
    // SAFETY: as above.
    unsafe {
        let checksum: u16 = read(at + 24);
        let mut sum = u64::from(!checksum) + u64::from((*this).address_difference);
        let ttl: u16 = read(at + 22);
        sum += replace_half(at + 22, u16::from_be(ttl).wrapping_sub(0x100).to_be());
        if clear_ecn {
            let service: u16 = read(at + 14);
            sum += replace_half(at + 14, service & !ECN_FIELD.to_be());
        }
        write(at + 24, !fold16(sum));
        write(at + 26, (*this).source[3]);
        write(at + 30, (*this).destination[3]);
        0
    }
}

/// Addresses, hop limit and ECN; the difference that the latter two make.
#[inline(always)]
unsafe fn ipv6(at: usize, this: *const Direction, clear_ecn: bool) -> u64 {
    // SAFETY: as above.
    unsafe {
        let hops: u16 = read(at + 20);
        let mut sum = replace_half(at + 20, u16::from_be(hops).wrapping_sub(1).to_be());
        if clear_ecn {
            let class: u16 = read(at + 14);
            sum += replace_half(at + 14, class & !ECN_IN_TRAFFIC_CLASS.to_be());
        }
        write_address(at + 22, &raw const (*this).source);
        write_address(at + 38, &raw const (*this).destination);
        sum
    }
}

#[inline(always)]
unsafe fn write_address(at: usize, address: *const Address) {
    for index in 0..4 {
        // SAFETY: as above; an address has four words.
        unsafe { write(at + index * 4, *address.cast::<u32>().add(index)) };
    }
}

/// Writes a word and returns the difference for the checksum: the complement of the old plus the new.
#[inline(always)]
pub(super) unsafe fn replace(at: usize, new: u32) -> u64 {
    // SAFETY: as above.
    unsafe {
        let old: u32 = read(at);
        write(at, new);
        u64::from(!old) + u64::from(new)
    }
}

#[inline(always)]
unsafe fn replace_half(at: usize, new: u16) -> u64 {
    // SAFETY: as above.
    unsafe {
        let old: u16 = read(at);
        write(at, new);
        u64::from(!old) + u64::from(new)
    }
}

#[inline(always)]
pub(super) fn fold32(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum as u32
}

#[inline(always)]
pub(super) fn fold16(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + ((sum >> 32) & 0xffff) + (sum >> 48);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// BPF_F_PSEUDO_HDR and BPF_F_IPV6 (include/uapi/linux/bpf.h).
pub(super) const PSEUDO_HEADER: u64 = 1 << 4;
pub(super) const IPV6: u64 = 1 << 7;
/// In the word with the data offset (RFC 3168 section 6.1).
const ECE_AND_CWR: u16 = 0x00c0;
/// The low bits of the second byte of an IPv4 header (RFC 3168 section 5).
const ECN_FIELD: u16 = 0x0003;
/// The same in an IPv6 header, where the traffic class begins after four bits.
const ECN_IN_TRAFFIC_CLASS: u16 = 0x0030;
