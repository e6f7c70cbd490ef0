//! Program `steer` (sk_lookup): gives connections to prefixes and port ranges that nobody bound to the router's listening
//! sockets, and refuses a listener's denied sources. Runs where the kernel looks for a listening socket, so once per
//! connection. The contract is in `router_common::steer`.

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use aya_ebpf::macros::{map, sk_lookup};
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{PerCpuArray, SockMap};
use aya_ebpf::programs::SkLookupContext;
use router_common::steer::{
    BOUND, DENIED_KEY_BITS, DeniedKey, Destination, FAMILY_IPV4, FAMILY_IPV6, PORT_KEY_BITS, PREFIX_KEY_BITS, PortKey,
    PrefixKey, Verdict, slot,
};

/// `SK_DROP` makes the kernel answer the SYN with a RST; `SK_PASS` without a socket lets its own lookup go on.
#[sk_lookup]
pub(crate) fn steer(context: SkLookupContext) -> u32 {
    match decide(&context) {
        None => SK_PASS,
        Some(verdict) => {
            count(verdict);
            if verdict == Verdict::Denied { SK_DROP } else { SK_PASS }
        }
    }
}

// A name here is a constant in router_common::steer; a test of the router compares them.
#[map]
static STEER_PREFIXES: LpmTrie<PrefixKey, u32> = LpmTrie::with_max_entries(1, 0);
#[map]
static STEER_PORTS: LpmTrie<PortKey, Destination> = LpmTrie::with_max_entries(1, 0);
#[map]
static STEER_DENIED: LpmTrie<DeniedKey, u32> = LpmTrie::with_max_entries(1, 0);
#[map]
static STEER_SOCKETS: SockMap = SockMap::with_max_entries(1, 0);
#[map]
static STEER_VERDICTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Verdict::ALL.len() as u32, 0);

/// The router writes it before the program is loaded.
#[unsafe(no_mangle)]
static STEER_WORKERS: u32 = 1;

/// One end of the connection.
struct Address {
    bytes: [u8; 16],
    bits: u32,
}

/// `None` for what is not TCP.
#[inline(always)]
fn decide(context: &SkLookupContext) -> Option<Verdict> {
    let lookup = context.lookup;
    // SAFETY: the kernel passes a valid bpf_sk_lookup for the duration of the program.
    let (protocol, family) = unsafe { (read(&raw const (*lookup).protocol), read(&raw const (*lookup).family)) };
    if protocol != TCP {
        return None;
    }
    let Some((client, local)) = ends(lookup, family) else { return Some(Verdict::Unmatched) };
    let key = Key::new(PREFIX_KEY_BITS + local.bits, PrefixKey { family, address: local.bytes });
    let Some(&prefix) = STEER_PREFIXES.get(key) else { return Some(Verdict::Unmatched) };
    // SAFETY: as above. The kernel gives the local port in host byte order.
    let port = unsafe { read(&raw const (*lookup).local_port) } as u16;
    let key = Key::new(PORT_KEY_BITS + u16::BITS, PortKey { prefix, port: port.to_be_bytes(), zero: [0; 2] });
    let Some(&Destination { listener, action }) = STEER_PORTS.get(key) else { return Some(Verdict::Unmatched) };
    let key = Key::new(DENIED_KEY_BITS + client.bits, DeniedKey { listener, family, address: client.bytes });
    if STEER_DENIED.get(key).is_some() {
        return Some(Verdict::Denied);
    }
    if action == BOUND {
        return Some(Verdict::Bound);
    }
    // SAFETY: the static is never written by the program; volatile, because the router writes it before the load.
    let workers = unsafe { core::ptr::read_volatile(&raw const STEER_WORKERS) };
    let slot = slot(listener, worker(lookup, &client, workers), workers);
    match STEER_SOCKETS.redirect_sk_lookup(context, slot, NO_REUSEPORT) {
        Ok(()) => Some(Verdict::Steered),
        Err(_) => Some(Verdict::NoSocket),
    }
}

/// Remote and local address; `None` for a family that does not exist.
#[inline(always)]
fn ends(lookup: *mut bpf_sk_lookup, family: u32) -> Option<(Address, Address)> {
    // SAFETY: the pointer is valid as in `decide`; the verifier refuses any other offset.
    unsafe {
        match family {
            FAMILY_IPV4 => {
                Some((ipv4(read(&raw const (*lookup).remote_ip4)), ipv4(read(&raw const (*lookup).local_ip4))))
            }
            FAMILY_IPV6 => Some((ipv6(&raw const (*lookup).remote_ip6), ipv6(&raw const (*lookup).local_ip6))),
            _ => None,
        }
    }
}

#[inline(always)]
fn ipv4(word: u32) -> Address {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&word.to_ne_bytes());
    Address { bytes, bits: u32::BITS }
}

/// # Safety
/// `words` points to an address of the context.
#[inline(always)]
unsafe fn ipv6(words: *const [u32; 4]) -> Address {
    let words = words.cast::<u32>();
    let mut bytes = [0; 16];
    for index in 0..4 {
        // SAFETY: the caller's promise; there are four words.
        let word = unsafe { read(words.add(index)) };
        bytes[index * 4..index * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    Address { bytes, bits: u128::BITS }
}

/// The same client address and port always meet the same worker.
#[inline(always)]
fn worker(lookup: *mut bpf_sk_lookup, client: &Address, workers: u32) -> u32 {
    // SAFETY: the pointer is valid as in `decide`.
    let port = u16::from_be(unsafe { read(&raw const (*lookup).remote_port) });
    let mut mixed = u32::from(port);
    for index in 0..4 {
        let at = index * 4;
        let word = [client.bytes[at], client.bytes[at + 1], client.bytes[at + 2], client.bytes[at + 3]];
        mixed = (mixed ^ u32::from_be_bytes(word)).wrapping_mul(GOLDEN_RATIO);
    }
    (u64::from(mixed) * u64::from(workers) >> 32) as u32
}

#[inline(always)]
fn count(verdict: Verdict) {
    if let Some(counter) = STEER_VERDICTS.get_ptr_mut(verdict as u32) {
        // SAFETY: the slot is this CPU's own, and a program of this kind is not interrupted by itself.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
}

/// One load of exactly this width: the verifier refuses the wider ones that the compiler would merge them to
/// (net/core/filter.c, sk_lookup_is_valid_access).
///
/// # Safety
/// `field` points into the context.
#[inline(always)]
unsafe fn read<T: Copy>(field: *const T) -> T {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(field) }
}

/// IPPROTO_TCP (include/uapi/linux/in.h).
const TCP: u32 = 6;
/// BPF_SK_LOOKUP_F_NO_REUSEPORT (include/uapi/linux/bpf.h): the worker is chosen here.
const NO_REUSEPORT: u64 = 2;
/// 2^32 divided by the golden ratio: neighbouring addresses and ports spread over all workers (Knuth, volume 3, 6.4).
const GOLDEN_RATIO: u32 = 0x9E37_79B1;
