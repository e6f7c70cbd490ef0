//! System calls that the safe crates do not wrap: TCP_REPAIR and TCP_INFO, maps by batch. With the table of flows
//! (`table/raw.rs`) the only unsafe code of cut-through.
#![expect(unsafe_code, reason = "raw system calls; see the SAFETY comments")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use router_common::cut_through::{Address, FlowKey, Sighting};

/// The sequence numbers of a socket in repair mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequences {
    /// The next one to be sent.
    pub(super) send: u32,
    /// The next one to be received.
    pub(super) receive: u32,
}

/// What TCP_INFO (include/uapi/linux/tcp.h, struct tcp_info) says of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionInfo {
    /// Whether neither end has finished.
    pub(super) established: bool,
    /// Bits of [`TIMESTAMPS`] and its neighbours.
    pub(super) options: u8,
    /// The scale of windows that the peer announces.
    pub(super) send_scale: u8,
    /// The scale of windows that we announce.
    pub(super) receive_scale: u8,
    /// Payload bytes that we may send in a segment.
    pub(super) send_segment: u32,
    /// The maximum segment size that we announced.
    pub(super) announced_segment: u32,
    /// Payload bytes received in order, a FIN included.
    pub(super) received: u64,
    /// Payload bytes sent, those that were sent again counted once.
    pub(super) sent: u64,
    /// Payload bytes that wait to be sent.
    pub(super) unsent: u32,
    /// Segments that arrived out of order.
    pub(super) out_of_order: u32,
    /// Since the last acknowledgement of the peer.
    pub(super) unheard_for: Duration,
}

/// TCPI_OPT_*.
pub(super) const TIMESTAMPS: u8 = 1;
pub(super) const SACK: u8 = 2;
pub(super) const ECN: u8 = 8;
pub(super) const MICROSECOND_TIMESTAMPS: u8 = 64;

/// How a socket leaves repair mode, or enters it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// A close says nothing to the peer.
    On,
    /// Back to normal, without the window probe that TCP_REPAIR_OFF would send.
    OffWithoutProbe,
}

pub(super) fn set_repair(socket: impl AsFd, repair: Repair) -> io::Result<()> {
    let value = match repair {
        Repair::On => 1,
        Repair::OffWithoutProbe => -1,
    };
    set_tcp_option(socket, libc::TCP_REPAIR, value)
}

/// Enters repair mode and reads both; the receive queue stays selected for [`receive_sequence`].
pub(super) fn enter_repair(socket: impl AsFd) -> io::Result<Sequences> {
    let socket = socket.as_fd();
    set_repair(socket, Repair::On)?;
    set_tcp_option(socket, libc::TCP_REPAIR_QUEUE, SEND_QUEUE)?;
    let send = tcp_option(socket, libc::TCP_QUEUE_SEQ)?;
    set_tcp_option(socket, libc::TCP_REPAIR_QUEUE, RECEIVE_QUEUE)?;
    Ok(Sequences { send, receive: receive_sequence(socket)? })
}

/// The next sequence number to be received, of a socket that [`enter_repair`] has prepared.
pub(super) fn receive_sequence(socket: impl AsFd) -> io::Result<u32> {
    tcp_option(socket, libc::TCP_QUEUE_SEQ)
}

/// Sets both sequence numbers of a socket in repair mode that is not connected yet.
pub(super) fn set_sequences(socket: impl AsFd, sequences: Sequences) -> io::Result<()> {
    let socket = socket.as_fd();
    for (queue, number) in [(SEND_QUEUE, sequences.send), (RECEIVE_QUEUE, sequences.receive)] {
        set_tcp_option(socket, libc::TCP_REPAIR_QUEUE, queue)?;
        set_tcp_option(socket, libc::TCP_QUEUE_SEQ, number.cast_signed())?;
    }
    Ok(())
}

/// What the socket would write into the timestamp option now.
pub(super) fn timestamp(socket: impl AsFd) -> io::Result<u32> {
    tcp_option(socket, libc::TCP_TIMESTAMP)
}

/// The largest segment that we announce and send.
pub(super) fn set_maximum_segment(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    set_tcp_option(socket, libc::TCP_MAXSEG, bytes.cast_signed())
}

/// Whether the peer's SYN had IP options, which our answers repeat.
pub(super) fn has_ip_options(socket: impl AsFd) -> bool {
    let mut options = [0_u8; 40];
    // Of an IPv6 socket there are none (ENOPROTOOPT).
    read_option(socket, libc::IPPROTO_IP, libc::IP_OPTIONS, &mut options).is_ok_and(|length| length > 0)
}

pub(super) fn connection_info(socket: impl AsFd) -> io::Result<ConnectionInfo> {
    let mut info = [0_u8; 256];
    let length = read_option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    if length < 228 {
        // tcpi_rcv_ooopack came with Linux 5.4.
        return Err(io::ErrorKind::Unsupported.into());
    }
    let word = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    let long = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&info[at..at + 8]);
        u64::from_ne_bytes(bytes)
    };
    Ok(ConnectionInfo {
        established: info[0] == TCP_ESTABLISHED,
        options: info[5],
        send_scale: info[6] & 15,
        receive_scale: info[6] >> 4,
        send_segment: word(16),
        announced_segment: word(84),
        received: long(128),
        sent: long(200).wrapping_sub(long(208)),
        unsent: word(144),
        out_of_order: word(224),
        unheard_for: Duration::from_millis(word(56).into()),
    })
}

/// What has arrived in order and was not read, in bytes (SIOCINQ, tcp(7)).
pub(super) fn unread(socket: impl AsFd) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and FIONREAD writes one int.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes.cast_unsigned()) }
}

/// What the peer has not acknowledged, in bytes (SIOCOUTQ, tcp(7)).
pub(super) fn unacknowledged(socket: impl AsFd) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and SIOCOUTQ (the same number as TIOCOUTQ) writes one int.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes.cast_unsigned()) }
}

/// MEMBARRIER_CMD_GLOBAL waits for a grace period of RCU (kernel/sched/membarrier.c).
pub(super) fn wait_for_grace_period() -> io::Result<()> {
    // SAFETY: the call takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Adds or overwrites both keys with one call.
pub(super) fn insert_keys(map: BorrowedFd<'_>, keys: &[FlowKey; 2], values: &[u32; 2]) -> io::Result<()> {
    let mut attributes = BatchAttributes {
        in_batch: 0,
        out_batch: 0,
        keys: address_of(keys),
        values: address_of(values),
        count: 2,
        map: map.as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_BATCH, &mut attributes)
}

/// Removes all of them, as far as they are there, with one call per key that is not.
pub(super) fn remove_keys(map: BorrowedFd<'_>, mut keys: &[FlowKey]) {
    while !keys.is_empty() {
        let mut attributes = BatchAttributes {
            in_batch: 0,
            out_batch: 0,
            keys: keys.as_ptr().addr() as u64,
            values: 0,
            count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
            map: map.as_raw_fd().cast_unsigned(),
            element_flags: 0,
            flags: 0,
        };
        // Ends at the first key that is missing, and says how many came before it (kernel/bpf/syscall.c,
        // generic_map_delete_batch).
        let removed = match bpf(BPF_MAP_DELETE_BATCH, &mut attributes) {
            Ok(()) => keys.len(),
            Err(_) => (attributes.count as usize).saturating_add(1).min(keys.len()),
        };
        keys = &keys[removed..];
    }
}

/// Sets the options to leave out of the SYN of a dial.
pub(super) fn announce_dial(map: BorrowedFd<'_>, key: &FlowKey, without: u32) -> io::Result<()> {
    let mut attributes = ElementAttributes::new(map, key);
    attributes.value = address_of(&without);
    bpf(BPF_MAP_UPDATE_ELEM, &mut attributes)
}

/// Through which interfaces the end's packets come and go.
pub(super) fn sighting(map: BorrowedFd<'_>, key: &FlowKey) -> io::Result<Option<Sighting>> {
    let mut found = Sighting::default();
    let mut attributes = ElementAttributes::new(map, key);
    attributes.value = (&raw mut found).addr() as u64;
    match bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes) {
        Ok(()) => Ok(Some(found)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A value of an array map, whatever its size.
pub(super) fn array_value(map: BorrowedFd<'_>, index: u32, size: u32) -> io::Result<Vec<u8>> {
    // The kernel writes whole words (kernel/bpf/syscall.c, bpf_map_value_size).
    let mut value = vec![0_u8; (size as usize).next_multiple_of(8)];
    let mut attributes = ElementAttributes {
        map: map.as_raw_fd().cast_unsigned(),
        zero: 0,
        key: address_of(&index),
        value: 0,
        flags: 0,
    };
    attributes.value = value.as_mut_ptr().addr() as u64;
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes)?;
    Ok(value)
}

/// An address as the contract has it.
pub(super) fn contract_address(address: std::net::IpAddr) -> Address {
    let bytes = match address {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(address) => address.octets(),
    };
    std::array::from_fn(|word| {
        u32::from_ne_bytes([bytes[word * 4], bytes[word * 4 + 1], bytes[word * 4 + 2], bytes[word * 4 + 3]])
    })
}

#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
struct ElementAttributes {
    map: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl ElementAttributes {
    fn new(map: BorrowedFd<'_>, key: &FlowKey) -> Self {
        Self { map: map.as_raw_fd().cast_unsigned(), zero: 0, key: address_of(key), value: 0, flags: 0 }
    }
}

fn address_of<T>(value: &T) -> u64 {
    ptr::from_ref(value).addr() as u64
}

/// bpf(2) with attributes whose pointers the caller keeps alive.
fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<()> {
    // SAFETY: the attributes are of the command's layout (include/uapi/linux/bpf.h, union bpf_attr), and the addresses in
    // them are of keys and values of the map's sizes that live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn tcp_option(socket: impl AsFd, name: libc::c_int) -> io::Result<u32> {
    let mut value = [0_u8; 4];
    read_option(socket, libc::IPPROTO_TCP, name, &mut value)?;
    Ok(u32::from_ne_bytes(value))
}

fn set_tcp_option(socket: impl AsFd, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open, and all options that are set here take one int, which is only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number of bytes that were written into `value`.
fn read_option(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: &mut [u8]) -> io::Result<usize> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: the descriptor is open, and pointer and length describe `value`, which the kernel fills up to that length.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length)
    };
    if result == 0 { Ok(length as usize) } else { Err(io::Error::last_os_error()) }
}

/// TCP_RECV_QUEUE and TCP_SEND_QUEUE (include/uapi/linux/tcp.h).
const RECEIVE_QUEUE: libc::c_int = 1;
const SEND_QUEUE: libc::c_int = 2;
/// net/tcp_states.h.
const TCP_ESTABLISHED: u8 = 1;
/// include/uapi/linux/membarrier.h.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
/// enum bpf_cmd (include/uapi/linux/bpf.h).
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;
const BPF_MAP_DELETE_BATCH: libc::c_int = 27;
