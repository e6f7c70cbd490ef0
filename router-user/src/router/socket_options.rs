//! TCP and IP socket options that the safe crates do not wrap. The only unsafe code of the router.
#![expect(unsafe_code, reason = "setsockopt(2) with an int; see the SAFETY comment")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// SO_RCVLOWAT: the socket reports readable only when this many bytes are queued, or its end or an error is
/// (net/ipv4/tcp.c, tcp_stream_is_readable). A peek that waits for the rest of a hello thus wakes once per useful
/// amount instead of once per segment. The kernel grows the receive buffer so that the amount fits (tcp_set_rcvlowat).
pub(super) fn set_receive_low_water_mark(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes.try_into().unwrap_or(libc::c_int::MAX))
}

/// TCP_DEFER_ACCEPT: a connection reaches accept(2) with its first bytes, which spares one wake-up per connection, or
/// after about `patience` without any (tcp(7); rounded up to a number of SYN-ACK retransmissions).
pub(crate) fn set_defer_accept(socket: impl AsFd, patience: Duration) -> io::Result<()> {
    let seconds = patience.as_secs().max(1).try_into().unwrap_or(libc::c_int::MAX);
    set(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
}

/// IP_TRANSPARENT and IPV6_TRANSPARENT (ip(7)): the socket may be bound to an address that is not this host's. Needs
/// CAP_NET_RAW or CAP_NET_ADMIN.
pub(super) fn set_transparent(socket: impl AsFd, is_ipv6: bool) -> io::Result<()> {
    match is_ipv6 {
        false => set(socket, libc::SOL_IP, libc::IP_TRANSPARENT, 1),
        true => set(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, 1),
    }
}

/// IP_BIND_ADDRESS_NO_PORT (ip(7)), of both families: bind(2) takes the address and connect(2) the port, so that a port
/// serves once per backend and not once altogether.
pub(super) fn set_bind_address_no_port(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

fn set(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed and thus open, and the pointer and length describe `value`, an int, which
    // is what all of these options take; setsockopt(2) only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
