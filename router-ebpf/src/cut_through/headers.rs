//! Where the headers are and what they say: Ethernet, then IPv4 without options or IPv6 without extension headers, then
//! TCP. Everything else is the business of `odd`.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_pull_data;
use router_common::cut_through::{Address, FlowKey};

/// A packet whose headers up to the fixed part of TCP's can be read and written at `at`.
#[derive(Clone, Copy)]
pub(super) struct Headers<const V6: bool> {
    pub(super) at: usize,
    pub(super) end: usize,
}

impl<const V6: bool> Headers<V6> {
    /// The source address; the destination follows it.
    pub(super) const ADDRESSES: usize = if V6 { 22 } else { 26 };
    pub(super) const TCP: usize = if V6 { 54 } else { 34 };
    /// Behind the fixed part of the TCP header.
    pub(super) const FIXED: usize = Self::TCP + 20;

    /// `None` for what is no TCP or is laid out otherwise.
    ///
    /// # Safety
    /// `skb` is the packet of the running program.
    #[inline(always)]
    pub(super) unsafe fn of(skb: *mut __sk_buff) -> Option<Self> {
        // SAFETY: the caller's promise; the verifier checks every read against `data_end`.
        unsafe {
            let mut at = (*skb).data as usize;
            let mut end = (*skb).data_end as usize;
            if at + Self::FIXED > end {
                if ((*skb).len as usize) < Self::FIXED || bpf_skb_pull_data(skb, Self::FIXED as u32) != 0 {
                    return None;
                }
                at = (*skb).data as usize;
                end = (*skb).data_end as usize;
                if at + Self::FIXED > end {
                    return None;
                }
            }
            let plain = if V6 {
                read::<u8>(at + 14) >> 4 == 6 && read::<u8>(at + 20) == TCP
            } else {
                read::<u8>(at + 14) == 0x45
                    && read::<u8>(at + 23) == TCP
                    && read::<u16>(at + 20) & FRAGMENT.to_be() == 0
            };
            if plain { Some(Self { at, end }) } else { None }
        }
    }

    #[inline(always)]
    pub(super) fn key(&self) -> FlowKey {
        FlowKey { source: self.source(), destination: self.destination(), ports: self.ports() }
    }

    #[inline(always)]
    pub(super) fn source(&self) -> Address {
        self.address(Self::ADDRESSES)
    }

    #[inline(always)]
    pub(super) fn destination(&self) -> Address {
        self.address(Self::ADDRESSES + if V6 { 16 } else { 4 })
    }

    #[inline(always)]
    pub(super) fn ports(&self) -> u32 {
        self.word(Self::TCP)
    }

    #[inline(always)]
    pub(super) fn sequence(&self) -> u32 {
        u32::from_be(self.word(Self::TCP + 4))
    }

    #[inline(always)]
    pub(super) fn acknowledgement(&self) -> u32 {
        u32::from_be(self.word(Self::TCP + 8))
    }

    #[inline(always)]
    pub(super) fn tcp_flags(&self) -> u8 {
        self.byte(Self::TCP + 13)
    }

    /// Length of the TCP header in bytes.
    #[inline(always)]
    pub(super) fn tcp_length(&self) -> usize {
        (self.byte(Self::TCP + 12) >> 4) as usize * 4
    }

    /// Length of TCP header and payload as the IP header has it; 0 for packets that were merged beyond 64 KiB.
    #[inline(always)]
    pub(super) fn tcp_and_payload(&self) -> usize {
        let length = u16::from_be(self.half(if V6 { 18 } else { 16 })) as usize;
        if V6 { length } else { length.saturating_sub(20) }
    }

    #[inline(always)]
    pub(super) fn byte(&self, offset: usize) -> u8 {
        // SAFETY: `of` has checked that the fixed headers are there, and the verifier checks the offset.
        unsafe { read(self.at + offset) }
    }

    #[inline(always)]
    pub(super) fn half(&self, offset: usize) -> u16 {
        // SAFETY: as above.
        unsafe { read(self.at + offset) }
    }

    #[inline(always)]
    pub(super) fn word(&self, offset: usize) -> u32 {
        // SAFETY: as above.
        unsafe { read(self.at + offset) }
    }

    #[inline(always)]
    fn address(&self, offset: usize) -> Address {
        if V6 {
            [self.word(offset), self.word(offset + 4), self.word(offset + 8), self.word(offset + 12)]
        } else {
            [0, 0, MAPPED.to_be(), self.word(offset)]
        }
    }
}

/// # Safety
/// The bytes belong to the packet.
#[inline(always)]
pub(super) unsafe fn read<T: Copy>(at: usize) -> T {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_unaligned(at as *const T) }
}

/// # Safety
/// The bytes belong to the packet.
#[inline(always)]
pub(super) unsafe fn write<T: Copy>(at: usize, value: T) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write_unaligned(at as *mut T, value) }
}

/// IPPROTO_TCP.
pub(super) const TCP: u8 = 6;
/// More fragments, or an offset that is not 0 (RFC 791 section 3.1).
pub(super) const FRAGMENT: u16 = 0x3fff;
/// Third word of an IPv4-mapped address.
pub(super) const MAPPED: u32 = 0x0000_ffff;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;
