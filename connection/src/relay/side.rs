//! The two ends of a relay as its directions use them: a plain TCP connection, or a stream on top of one.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

pub(super) trait Side {
    /// Zero bytes are the end.
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// The same for bytes with which the stream ends: what was written may wait for the shutdown that follows.
    fn poll_write_last(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(context, bytes)
    }
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// The connection, where its bytes are the ones to relay, so that they can be spliced.
    fn tcp(&self) -> Option<&TcpStream>;
}

#[derive(Debug)]
pub(super) struct TcpSide<'a>(pub(super) &'a TcpStream);

impl Side for TcpSide<'_> {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        poll_recv(self.0, context, buffer)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll_send(self.0, context, bytes, SendFlags::NOSIGNAL)
    }

    fn poll_write_last(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll_send(self.0, context, bytes, SendFlags::NOSIGNAL | SendFlags::MORE)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown_write(self.0))
    }

    fn tcp(&self) -> Option<&TcpStream> {
        Some(self.0)
    }
}

#[derive(Debug)]
pub(super) struct StreamSide<S>(pub(super) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Side for StreamSide<S> {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

/// Receives what is there. Fewer bytes than asked for mean that nothing is left, so readiness is cleared in the same
/// step and the next call does not have to ask the kernel (epoll(7), question 9).
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

/// Sends what fits. Less than everything means that the socket's queue is full, so writability is cleared in the same
/// step.
pub(super) fn poll_send(
    socket: &TcpStream,
    context: &mut Context<'_>,
    bytes: &[u8],
    flags: SendFlags,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(context))?;
        let mut sent = None;
        let tried = socket.try_io(Interest::WRITABLE, || {
            let length = send(socket, bytes, flags)?;
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

pub(super) fn shutdown_write(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).shutdown(Shutdown::Write)
}
