//! ICMP "fragmentation needed" (RFC 1191) and "packet too big" (RFC 8201): a router on the way to one end says that a
//! packet of a flow was too large. Our own TCP did not send it, so the message is translated for the end that did, which
//! judges it by the sequence number in it. It comes from our address: the other network's routers are nobody's business.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{
    bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_redirect_neigh, bpf_skb_load_bytes,
    bpf_skb_store_bytes,
};
use router_common::cut_through::{Address, BACKEND, CLIENT, FlowKey, Verdict};

use super::arrive::direction;
use super::headers::{FRAGMENT, MAPPED, TCP};
use super::rewrite::{IPV6 as IPV6_FLAG, PSEUDO_HEADER, fold16, fold32};
use super::{CUT_FLOWS, CUT_KEYS, PASS, count};

/// A packet that is no TCP; `PASS` for what is not a message about a flow.
///
/// # Safety
/// `skb` is the packet of the running program.
#[inline(never)]
pub(super) unsafe fn ipv4(skb: *mut __sk_buff) -> i32 {
    // SAFETY: the caller's promise; the helpers check the offsets.
    unsafe {
        let mut outer = [0_u32; 5];
        let mut kind = 0_u16;
        // The header of the packet that was too large, and of its TCP header the ports and the sequence number.
        let mut old = [0_u32; 7];
        if load(skb, ETHERNET, &mut outer) || load(skb, ETHERNET + 20, &mut kind) || load(skb, ETHERNET + 28, &mut old)
        {
            return PASS;
        }
        let about_tcp = old[0].to_be() >> 24 == 0x45
            && old[2].to_be() >> 16 & 0xff == u32::from(TCP)
            && old[1].to_be() & u32::from(FRAGMENT >> 1) == 0;
        if outer[0].to_be() >> 24 != 0x45 || kind != FRAGMENTATION_NEEDED.to_be() || !about_tcp {
            return PASS;
        }
        let mapped = |address: u32| [0, 0, MAPPED.to_be(), address];
        let Some(sender) = sender(mapped(old[3]), mapped(old[4]), old[5], old[6]) else { return PASS };
        let mut new = old;
        new[3] = sender.address[3];
        new[4] = sender.ours[3];
        new[5] = sender.ports;
        new[6] = sender.sequence;
        let addresses = difference(&mut [old[3], old[4]], &mut [new[3], new[4]]);
        // The checksum is the second half of the third word, in the order of the wire.
        let checksum = core::ptr::addr_of_mut!(new).cast::<u16>().add(5);
        let sum = u64::from(!*checksum) + u64::from(fold32(addresses));
        *checksum = !fold16(sum);
        let quoted = difference(&mut old, &mut new);
        let mut ends = [sender.ours[3], sender.address[3]];
        let outer_addresses = difference(&mut [outer[3], outer[4]], &mut ends);
        bpf_l3_csum_replace(skb, ETHERNET + 10, 0, outer_addresses, 0);
        bpf_l4_csum_replace(skb, ETHERNET + 22, 0, quoted, 0);
        if store(skb, ETHERNET + 12, &ends) || store(skb, ETHERNET + 28, &new) {
            return PASS;
        }
        count(Verdict::IcmpTranslated);
        bpf_redirect_neigh(sender.interface, core::ptr::null_mut(), 0, 0) as i32
    }
}

/// The same of IPv6.
///
/// # Safety
/// As above.
#[inline(never)]
pub(super) unsafe fn ipv6(skb: *mut __sk_buff) -> i32 {
    // SAFETY: as above.
    unsafe {
        let mut outer = [0_u32; 10];
        let mut kind = 0_u8;
        let mut old = [0_u32; 12];
        if load(skb, ETHERNET, &mut outer) || load(skb, ETHERNET + 40, &mut kind) || load(skb, ETHERNET + 48, &mut old)
        {
            return PASS;
        }
        let next_header = |header: u32| (header.to_be() >> 8) as u8;
        if next_header(outer[1]) != ICMPV6 || kind != PACKET_TOO_BIG || next_header(old[1]) != TCP {
            return PASS;
        }
        let address = |words: &[u32], at: usize| [words[at], words[at + 1], words[at + 2], words[at + 3]];
        let Some(sender) = sender(address(&old, 2), address(&old, 6), old[10], old[11]) else { return PASS };
        let mut new = old;
        for index in 0..4 {
            new[2 + index] = sender.address[index];
            new[6 + index] = sender.ours[index];
        }
        new[10] = sender.ports;
        new[11] = sender.sequence;
        let quoted = difference(&mut old, &mut new);
        let mut ends = [0_u32; 8];
        let mut outer_ends = [0_u32; 8];
        for index in 0..4 {
            ends[index] = sender.ours[index];
            ends[4 + index] = sender.address[index];
            outer_ends[index] = outer[2 + index];
            outer_ends[4 + index] = outer[6 + index];
        }
        let pseudo_header = difference(&mut outer_ends, &mut ends);
        let checksum = ETHERNET + 42;
        if bpf_l4_csum_replace(skb, checksum, 0, pseudo_header, PSEUDO_HEADER | IPV6_FLAG) != 0 {
            bpf_l4_csum_replace(skb, checksum, 0, pseudo_header, PSEUDO_HEADER);
        }
        bpf_l4_csum_replace(skb, checksum, 0, quoted, 0);
        if store(skb, ETHERNET + 8, &ends) || store(skb, ETHERNET + 48, &new) {
            return PASS;
        }
        count(Verdict::IcmpTranslated);
        bpf_redirect_neigh(sender.interface, core::ptr::null_mut(), 0, 0) as i32
    }
}

/// Who sent the packet that was too large, and how it looked when it was sent.
struct Sender {
    address: Address,
    ours: Address,
    ports: u32,
    sequence: u32,
    interface: u32,
}

/// By the packet as it left here: from `source` to `destination`. `None` when it is of no flow, or our own TCP's.
#[inline(always)]
unsafe fn sender(source: Address, destination: Address, ports: u32, sequence: u32) -> Option<Sender> {
    // SAFETY: values of maps stay valid for the duration of the program.
    unsafe {
        // As the answer would arrive.
        let key = FlowKey { source: destination, destination: source, ports: ports.rotate_left(16) };
        let &reference = CUT_KEYS.get(&key)?;
        let flow = CUT_FLOWS.get_ptr_mut(reference >> 1)?;
        let sequence = u32::from_be(sequence);
        let from_client = reference & 1 == BACKEND as u32;
        if from_client && (*flow).pending != 0 && (sequence.wrapping_sub((*flow).hello_end) as i32) < 0 {
            return None;
        }
        let (this, back) = if from_client { (CLIENT, BACKEND) } else { (BACKEND, CLIENT) };
        let (this, back) = (direction(flow, this), direction(flow, back));
        Some(Sender {
            address: (*back).destination,
            ours: (*back).source,
            ports: (*back).ports.rotate_left(16),
            sequence: sequence.wrapping_sub((*this).sequence_shift).to_be(),
            interface: (*back).interface,
        })
    }
}

#[inline(always)]
unsafe fn load<T>(skb: *mut __sk_buff, at: u32, into: &mut T) -> bool {
    // SAFETY: the place is as long as the helper is told.
    unsafe { bpf_skb_load_bytes(skb.cast(), at, core::ptr::from_mut(into).cast(), size_of::<T>() as u32) != 0 }
}

#[inline(always)]
unsafe fn store<T>(skb: *mut __sk_buff, at: u32, from: &T) -> bool {
    // SAFETY: as above.
    unsafe { bpf_skb_store_bytes(skb.cast(), at, core::ptr::from_ref(from).cast(), size_of::<T>() as u32, 0) != 0 }
}

/// The ones' complement sum of new minus old words.
#[inline(always)]
unsafe fn difference<const N: usize>(old: &mut [u32; N], new: &mut [u32; N]) -> u64 {
    let length = (N * 4) as u32;
    // SAFETY: both have this length, a multiple of four.
    unsafe { bpf_csum_diff(old.as_mut_ptr(), length, new.as_mut_ptr(), length, 0) as u64 & 0xffff_ffff }
}

const ETHERNET: u32 = 14;
/// Type 3 and code 4 (RFC 792).
const FRAGMENTATION_NEEDED: u16 = 0x0304;
/// RFC 4443 section 3.2.
const PACKET_TOO_BIG: u8 = 2;
const ICMPV6: u8 = 58;
