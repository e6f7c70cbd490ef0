//! A connection that a TLS stream and the relay under it can hold at the same time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::side::{poll_recv, poll_send, shutdown_write};

/// A shared handle on a connection. Build the TLS stream on one clone and give another one to
/// [`relay_stream`](super::relay_stream) or [`relay_streams`](super::relay_streams), which need the socket itself to
/// notice and to send resets. The connection closes with the last clone.
#[derive(Clone, Debug)]
pub struct SharedSocket(Arc<TcpStream>);

impl SharedSocket {
    /// Shares `connection`.
    pub fn new(connection: TcpStream) -> Self {
        Self(Arc::new(connection))
    }

    /// The connection itself, for options, addresses and peeking.
    pub fn tcp(&self) -> &TcpStream {
        &self.0
    }
}

impl AsFd for SharedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsyncRead for SharedSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = ready!(poll_recv(&self.0, context, buffer.initialize_unfilled()))?;
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SharedSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll_send(&self.0, context, bytes, SendFlags::NOSIGNAL)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown_write(&self.0))
    }
}
