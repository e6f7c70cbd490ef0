//! Unix sockets that keep messages whole, and their registration with tokio, which has no SOCK_SEQPACKET type of its own.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) fn seqpacket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Has tokio tell when a descriptor is ready. Needs a tokio runtime with I/O.
#[expect(
    deprecated,
    reason = "the replacement is unsafe, because other types could close or exchange their descriptor while it is \
              registered; an OwnedFd that the AsyncFd owns cannot"
)]
pub fn register(socket: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, interest)
}
