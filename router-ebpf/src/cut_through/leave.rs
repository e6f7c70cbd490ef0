//! The way of a packet that leaves: SYNs that announce a flow lose the options that its client lacks, and SYNs and
//! their answers say through which interface a flow's packets leave.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_store_bytes};
use router_common::cut_through::{BACKEND, CLIENT, Direction, FlowKey, SENT_FROM, Verdict};

use super::arrive::{IPV4, IPV6};
use super::headers::{ACK, FIN, Headers, RST, SYN, write};
use super::{CUT_DIALS, CUT_FLOWS, CUT_KEYS, PASS, count, options, sightings};

/// # Safety
/// `skb` is the packet of the running program.
#[inline(always)]
pub(super) unsafe fn leave(skb: *mut __sk_buff) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        // What is only passing through has come in somewhere; everything below is about packets of our own TCP, of which
        // the interface of a VLAN has had those that are tagged.
        if (*skb).ingress_ifindex != 0 || (*skb).vlan_present != 0 {
            return PASS;
        }
        match u16::from_be((*skb).protocol as u16) {
            IPV4 => {
                if let Some(headers) = Headers::<false>::of(skb) {
                    segment(skb, &headers);
                }
            }
            IPV6 => {
                if let Some(headers) = Headers::<true>::of(skb) {
                    segment(skb, &headers);
                }
            }
            _ => {}
        }
    }
    PASS
}

#[inline(always)]
unsafe fn segment<const V6: bool>(skb: *mut __sk_buff, headers: &Headers<V6>) {
    // SAFETY: values of maps stay valid for the duration of the program.
    unsafe {
        let flags = headers.tcp_flags() & (SYN | RST | FIN | ACK);
        let ports = headers.ports();
        // As the answer will arrive: addresses and ports change places.
        let mut answer =
            FlowKey { source: headers.destination(), destination: headers.source(), ports: ports.rotate_left(16) };
        if flags & (SYN | RST) == 0 {
            return catch_up(skb, headers, &answer);
        }
        let leaves = (*skb).ifindex;
        if flags == SYN | ACK {
            return sightings::answer_leaves(leaves, &answer, headers.acknowledgement());
        }
        let local = answer.destination;
        answer.destination = [0; 4];
        let Some(&without) = CUT_DIALS.get(&answer) else { return };
        if flags & RST != 0 {
            send_from(skb, Headers::<V6>::TCP as u32, without);
            return;
        }
        answer.destination = local;
        sightings::syn_leaves(leaves, &answer, headers.sequence());
        let tcp_length = headers.tcp_length();
        if without == 0 || tcp_length <= 20 {
            count(Verdict::SynKept);
            return;
        }
        let difference = options::leave_out(skb, Headers::<V6>::FIXED as u32, (tcp_length - 20) as u32, without);
        if difference >= 0 {
            bpf_l4_csum_replace(skb, (Headers::<V6>::TCP + 16) as u32, 0, difference as u64, 0);
            count(Verdict::SynShaped);
        }
    }
}

/// While our TCP still brings a flow's first bytes to the backend it knows nothing of what the backend has sent past it.
/// The backend would drop what acknowledges too little (RFC 5961 section 5.2): it is told what the client acknowledges.
#[inline(always)]
unsafe fn catch_up<const V6: bool>(skb: *mut __sk_buff, headers: &Headers<V6>, answer: &FlowKey) {
    // SAFETY: as in `segment`.
    unsafe {
        let Some(&reference) = CUT_KEYS.get(answer) else { return };
        let Some(flow) = CUT_FLOWS.get_ptr_mut(reference >> 1) else { return };
        if reference & 1 != BACKEND as u32 || (*flow).pending == 0 {
            return;
        }
        let client = (&raw const (*flow).directions).cast::<Direction>().add(CLIENT);
        let acknowledged = ((*client).acknowledged as u32).wrapping_add((*client).acknowledgement_shift);
        let place = Headers::<V6>::TCP + 8;
        let old = headers.word(place);
        write(headers.at + place, acknowledged.to_be());
        let checksum = (Headers::<V6>::TCP + 16) as u32;
        bpf_l4_csum_replace(skb, checksum, u64::from(old), u64::from(acknowledged.to_be()), 4);
    }
}

/// Gives a RST the source port of the flow that it ends.
#[inline(always)]
unsafe fn send_from(skb: *mut __sk_buff, tcp: u32, value: u32) {
    if value & SENT_FROM == 0 {
        return;
    }
    // SAFETY: the caller's promise; the helpers check the offsets.
    unsafe {
        let mut old = 0_u16;
        let new = ((value >> 16) as u16).to_be();
        if bpf_skb_load_bytes(skb.cast(), tcp, (&raw mut old).cast(), 2) != 0 {
            return;
        }
        bpf_l4_csum_replace(skb, tcp + 16, u64::from(old), u64::from(new), 2);
        if bpf_skb_store_bytes(skb.cast(), tcp, (&raw const new).cast(), 2, 0) == 0 {
            count(Verdict::Ended);
        }
    }
}
