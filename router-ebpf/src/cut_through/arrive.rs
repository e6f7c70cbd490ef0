//! The way of an arriving packet: which flow, whose business, then translated and sent on.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{bpf_l4_csum_replace, bpf_redirect_neigh};
use router_common::cut_through::{BACKEND, CLIENT, Direction, Flow, FlowKey, HELLO_ACKNOWLEDGED, Verdict};

use super::headers::{ACK, FIN, Headers, RST, SYN, write};
use super::progress::{self, Segment};
use super::{CUT_FLOWS, CUT_KEYS, PASS, count, dropped, icmp, odd, report, rewrite, sightings};

/// # Safety
/// `skb` is the packet of the running program.
#[inline(always)]
pub(super) unsafe fn arrive(skb: *mut __sk_buff) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        // The first belongs to the interface of its VLAN, where this program is attached, too; the second to a bridge's
        // or MACVLAN's other ports.
        if (*skb).vlan_present != 0 || (*skb).pkt_type != PACKET_HOST {
            return PASS;
        }
        match u16::from_be((*skb).protocol as u16) {
            IPV4 => match Headers::<false>::of(skb) {
                Some(headers) => segment(skb, headers),
                None => odd::ipv4(skb),
            },
            IPV6 => match Headers::<true>::of(skb) {
                Some(headers) => segment(skb, headers),
                None => icmp::ipv6(skb),
            },
            _ => PASS,
        }
    }
}

#[inline(always)]
unsafe fn segment<const V6: bool>(skb: *mut __sk_buff, headers: Headers<V6>) -> i32 {
    // SAFETY: values of maps stay valid for the duration of the program; the programs that run at the same time on
    // other CPUs write integers whose order does not matter (see `progress`).
    unsafe {
        let key = headers.key();
        let Some(&reference) = CUT_KEYS.get(&key) else { return stranger(skb, &headers, &key) };
        let index = reference >> 1;
        let Some(flow) = CUT_FLOWS.get_ptr_mut(index) else { return dropped(Verdict::NoFlow) };
        let from_backend = reference & 1 != 0;
        let this = direction(flow, if from_backend { BACKEND } else { CLIENT });
        let other = direction(flow, if from_backend { CLIENT } else { BACKEND });

        let flags = headers.tcp_flags();
        if !from_backend && flags & (SYN | RST | FIN | ACK) == SYN && progress::over(this, other) {
            // The client has forgotten the old connection and begins a new one.
            (*flow).client_key_released = 1;
            let _ = CUT_KEYS.remove(&key);
            sightings::syn_arrives((*skb).ifindex, &key, headers.sequence());
            count(Verdict::NewConnection);
            return PASS;
        }
        let tcp_length = headers.tcp_length();
        let packet_length = (*skb).len as usize;
        if tcp_length < 20 || packet_length < Headers::<V6>::TCP + tcp_length {
            return dropped(Verdict::Malformed);
        }
        // Short packets are padded by Ethernet, very long ones have no length in their IP header.
        let stated = headers.tcp_and_payload();
        let payload = if stated >= tcp_length && stated < packet_length {
            stated - tcp_length
        } else {
            packet_length - Headers::<V6>::TCP - tcp_length
        };
        let segment = Segment {
            sequence: headers.sequence(),
            acknowledgement: headers.acknowledgement(),
            window: u16::from_be(headers.half(Headers::<V6>::TCP + 14)),
            payload: payload as u32,
            flags,
        };
        progress::note(flow, this, other, &segment, index);

        if from_backend && (*flow).pending != 0 {
            let left = (*flow).hello_end.wrapping_sub(segment.acknowledgement) as i32;
            if left <= 0 {
                (*flow).pending = 0;
                report(index, (*flow).generation, HELLO_ACKNOWLEDGED);
            }
            // The last one goes to the client, which would not learn the backend's window from anybody else: our TCP had none
            // left for who has sent a lot, and is done.
            if left > 0 && payload == 0 && flags & (FIN | RST | SYN) == 0 {
                // Our own TCP has sent those bytes and sends them again until it sees this. It would not take what is
                // beyond its window, and it does not know of the bytes that went past it (RFC 9293 section 3.10.7.4).
                let expected = (*flow).expected.to_be();
                let old: u32 = headers.word(Headers::<V6>::TCP + 4);
                write(headers.at + Headers::<V6>::TCP + 4, expected);
                let checksum = (Headers::<V6>::TCP + 16) as u32;
                bpf_l4_csum_replace(skb, checksum, u64::from(old), u64::from(expected), 4);
                count(Verdict::Acknowledged);
                return PASS;
            }
        }
        match rewrite::rewrite(skb, headers, this, other, &segment, tcp_length) {
            Ok(()) => {
                count(Verdict::Forwarded);
                bpf_redirect_neigh((*this).interface, core::ptr::null_mut(), 0, 0) as i32
            }
            Err(verdict) => dropped(verdict),
        }
    }
}

/// A segment of no flow. SYNs of clients and answers of backends say where a later flow's packets arrive.
#[inline(always)]
unsafe fn stranger<const V6: bool>(skb: *mut __sk_buff, headers: &Headers<V6>, key: &FlowKey) -> i32 {
    // SAFETY: as in `segment`.
    unsafe {
        match headers.tcp_flags() & (SYN | RST | FIN | ACK) {
            SYN => sightings::syn_arrives((*skb).ifindex, key, headers.sequence()),
            SYN_ACK => sightings::answer_arrives((*skb).ifindex, key, headers.acknowledgement()),
            _ => {}
        }
    }
    PASS
}

#[inline(always)]
pub(super) unsafe fn direction(flow: *mut Flow, which: usize) -> *mut Direction {
    // SAFETY: `which` is CLIENT or BACKEND.
    unsafe { (&raw mut (*flow).directions).cast::<Direction>().add(which) }
}

/// ETH_P_IP and ETH_P_IPV6 (include/uapi/linux/if_ether.h).
pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;
const SYN_ACK: u8 = SYN | ACK;
/// include/uapi/linux/if_packet.h.
const PACKET_HOST: u32 = 0;
