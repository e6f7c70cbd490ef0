//! IPv4 packets that are no plain TCP: ICMP, and what of a flow cannot be translated: fragments and packets with IP
//! options. The latter are dropped, because the local TCP has no socket for them and would reset the connection.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use router_common::cut_through::{FlowKey, Verdict};

use super::headers::{FRAGMENT, MAPPED, TCP};
use super::{CUT_KEYS, PASS, dropped, icmp};

/// # Safety
/// `skb` is the packet of the running program.
#[inline(never)]
pub(super) unsafe fn ipv4(skb: *mut __sk_buff) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        let mut header = [0_u32; 5];
        if bpf_skb_load_bytes(skb.cast(), ETHERNET, header.as_mut_ptr().cast(), 20) != 0 {
            return PASS;
        }
        let first = u32::from_be(header[0]) >> 24;
        let fragment = u32::from_be(header[1]) as u16 & FRAGMENT;
        let protocol = (u32::from_be(header[2]) >> 16) as u8;
        let length = (first & 15) * 4;
        // Of a fragmented packet the first piece alone has ports; without it the others lead to nothing.
        if protocol == ICMP {
            return icmp::ipv4(skb);
        }
        if first >> 4 != 4 || length < 20 || protocol != TCP || fragment & OFFSET != 0 {
            return PASS;
        }
        let mut ports = 0_u32;
        if bpf_skb_load_bytes(skb.cast(), ETHERNET + length, (&raw mut ports).cast(), 4) != 0 {
            return PASS;
        }
        let mapped = MAPPED.to_be();
        let key = FlowKey { source: [0, 0, mapped, header[3]], destination: [0, 0, mapped, header[4]], ports };
        if CUT_KEYS.get(&key).is_some() { dropped(Verdict::Unsupported) } else { PASS }
    }
}

const ETHERNET: u32 = 14;
/// IPPROTO_ICMP.
const ICMP: u8 = 1;
/// The offset in the field of fragments.
const OFFSET: u16 = 0x1fff;
