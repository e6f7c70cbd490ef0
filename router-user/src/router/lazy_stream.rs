//! A connection that the runtime need not know. The hello mostly comes with the connection (TCP_DEFER_ACCEPT), and a client that
//! a terminator or the kernel gets is never waited for here: it costs no place in epoll and no turn of the runtime.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use tokio::net::TcpStream;

/// A connection that does not block.
#[derive(Debug)]
pub(super) enum LazyStream {
    /// Nobody has had to wait for it yet.
    Unregistered(net::TcpStream),
    /// The runtime of this thread tells when it can be read or written.
    Registered(TcpStream),
}

impl LazyStream {
    /// For those who wait. Needs a tokio runtime with I/O; fails where the kernel has no memory for it (epoll_ctl(2)), and
    /// then closes the connection.
    pub(super) fn register(self) -> io::Result<TcpStream> {
        match self {
            Self::Unregistered(stream) => TcpStream::from_std(stream),
            Self::Registered(stream) => Ok(stream),
        }
    }

    /// For those who do not.
    pub(super) fn into_std(self) -> io::Result<net::TcpStream> {
        match self {
            Self::Unregistered(stream) => Ok(stream),
            Self::Registered(stream) => stream.into_std(),
        }
    }

    /// The address that the peer connected to, or that this end connected from.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Unregistered(stream) => stream.local_addr(),
            Self::Registered(stream) => stream.local_addr(),
        }
    }
}

impl AsFd for LazyStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unregistered(stream) => stream.as_fd(),
            Self::Registered(stream) => stream.as_fd(),
        }
    }
}
