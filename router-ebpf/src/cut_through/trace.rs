//! What a build with the feature `log` tells of each TCP packet over IPv4; in every other build there is nothing of this.

#[cfg(feature = "log")]
pub(super) use self::told::{arrives, leaves, outcome};

/// The committed object's.
#[cfg(not(feature = "log"))]
mod silent {
    use aya_ebpf::bindings::__sk_buff;

    #[inline(always)]
    pub(in super::super) fn arrives(_: *mut __sk_buff) {}

    #[inline(always)]
    pub(in super::super) fn leaves(_: *mut __sk_buff) {}

    #[inline(always)]
    pub(in super::super) fn outcome(_: *mut __sk_buff, _: i32) {}
}
#[cfg(not(feature = "log"))]
pub(super) use self::silent::{arrives, leaves, outcome};

#[cfg(feature = "log")]
mod told {
    use aya_ebpf::bindings::__sk_buff;
    use aya_ebpf::helpers::bpf_skb_load_bytes;
    use aya_log_ebpf::debug;

    use super::super::arrive::IPV4;
    use super::super::headers::TCP;
    use super::super::{DROP, PASS};

    /// A line with the packet's addresses, ports and numbers. A text of its own for each place: the verifier does not
    /// follow one of two lengths.
    macro_rules! tell {
        ($skb:expr, $text:tt) => {
            if let Some([source, destination, ports, sequence, acknowledgement, flags]) = words($skb) {
                debug!(
                    &(),
                    $text,
                    source,
                    ports >> 16,
                    destination,
                    ports & 0xffff,
                    flags >> 16 & 0xff,
                    sequence,
                    acknowledgement
                );
            }
        };
    }

    // Programs of their own (BPF to BPF calls), so that the way of a packet is verified as if they were not there.
    #[inline(never)]
    pub(in super::super) fn arrives(skb: *mut __sk_buff) {
        tell!(skb, "arrives {:i}:{} > {:i}:{} flags {:x} seq {} ack {}");
    }

    /// One that is only passing through has been told already.
    #[inline(never)]
    pub(in super::super) fn leaves(skb: *mut __sk_buff) {
        // SAFETY: the packet of the running program.
        if unsafe { (*skb).ingress_ifindex } != 0 {
            return;
        }
        tell!(skb, "leaves {:i}:{} > {:i}:{} flags {:x} seq {} ack {}");
    }

    /// What becomes of one that has arrived.
    #[inline(never)]
    pub(in super::super) fn outcome(skb: *mut __sk_buff, action: i32) {
        if action == PASS {
            debug!(&(), "  for the local stack");
        } else if action == DROP {
            debug!(&(), "  dropped");
        } else {
            tell!(skb, "  sent on as {:i}:{} > {:i}:{} flags {:x} seq {} ack {}");
        }
    }

    /// Source, destination, ports, numbers and the word with the flags, of IPv4 without options.
    #[inline(always)]
    fn words(skb: *mut __sk_buff) -> Option<[u32; 6]> {
        let mut headers = [0_u32; 10];
        // SAFETY: the packet of the running program; the helper checks the length.
        unsafe {
            if u16::from_be((*skb).protocol as u16) != IPV4
                || bpf_skb_load_bytes(skb.cast(), ETHERNET, headers.as_mut_ptr().cast(), 40) != 0
            {
                return None;
            }
        }
        let headers = headers.map(u32::from_be);
        let plain = headers[0] >> 24 == VERSION_AND_LENGTH && (headers[2] >> 16) as u8 == TCP;
        plain.then_some([headers[3], headers[4], headers[5], headers[6], headers[7], headers[8]])
    }

    const ETHERNET: u32 = 14;
    /// RFC 791 section 3.1: version 4, five words.
    const VERSION_AND_LENGTH: u32 = 0x45;
}
