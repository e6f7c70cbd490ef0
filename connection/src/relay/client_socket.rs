//! A client's connection that a TLS stream and the relay under it can hold at the same time.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A shared handle on a client's connection. Build the TLS stream on one clone and give another one to
/// [`relay_stream`](super::relay_stream), which needs the socket itself to notice and to send resets.
#[derive(Clone, Debug)]
pub struct ClientSocket(Arc<TcpStream>);

impl ClientSocket {
    /// Shares `connection`.
    pub fn new(connection: TcpStream) -> Self {
        Self(Arc::new(connection))
    }

    /// The connection itself, for options, addresses and peeking.
    pub fn tcp(&self) -> &TcpStream {
        &self.0
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = ready!(poll_recv(&self.0, context, buffer.initialize_unfilled()))?;
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll_send(&self.0, context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

/// Receives what is there; fewer bytes than asked for mean that nothing is left, so readiness is cleared in the
/// same step and the next call does not have to ask the kernel (epoll(7), question 9).
pub(super) fn poll_recv(socket: &TcpStream, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    let wanted = buffer.len();
    loop {
        ready!(socket.poll_read_ready(context))?;
        let mut received = None;
        let tried = socket.try_io(Interest::READABLE, || {
            let (_, length) = recv(socket, &mut *buffer, RecvFlags::empty())?;
            received = Some(length);
            if (1..wanted).contains(&length) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (received, tried) {
            (Some(length), _) => return Poll::Ready(Ok(length)),
            (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
            (None, _) => {}
        }
    }
}

/// Sends what fits; less than everything means that the socket's queue is full, so writability is cleared in the same
/// step.
pub(super) fn poll_send(socket: &TcpStream, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(context))?;
        let mut sent = None;
        let tried = socket.try_io(Interest::WRITABLE, || {
            let length = send(socket, bytes, SendFlags::NOSIGNAL)?;
            sent = Some(length);
            if length < bytes.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (sent, tried) {
            (Some(length), _) => return Poll::Ready(Ok(length)),
            (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
            (None, _) => {}
        }
    }
}
