//! A connection between two of our own processes that keeps messages whole, each with its descriptors. Knows nothing of
//! what they mean.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::seqpacket::register;

/// One end. Several tasks may send through it.
#[derive(Debug)]
pub struct Channel {
    socket: AsyncFd<OwnedFd>,
}

/// What came in one piece.
#[derive(Debug)]
pub struct Message {
    /// The bytes; never none.
    pub payload: Vec<u8>,
    /// All that came with them.
    pub descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Two ends that are connected to each other, to be given to whom they are for.
    pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
    }

    /// The end that `socket` is; fails where it is something else. Needs a tokio runtime with I/O.
    pub fn over(socket: OwnedFd) -> io::Result<Self> {
        if sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket of another type"));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket: register(socket, Interest::READABLE | Interest::WRITABLE)? })
    }

    /// Sends all of it as one message, at most [`MESSAGE_LIMIT`] bytes and [`DESCRIPTOR_LIMIT`] descriptors; waits while
    /// the other end has too much to read. When it is dropped before its end, nothing was sent.
    pub async fn send(&self, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if payload.is_empty() || payload.len() > MESSAGE_LIMIT || descriptors.len() > DESCRIPTOR_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message that is empty or too long"));
        }
        let mut pause = SHORTEST_PAUSE;
        loop {
            let sent =
                self.socket.async_io(Interest::WRITABLE, |socket| Ok(send_now(socket, payload, descriptors)?)).await;
            match sent {
                // Too many descriptors are under way from this user (unix(7)); no readiness tells when they have been
                // received.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::TOOMANYREFS) => {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
                done => return done,
            }
        }
    }

    /// The next message; `None` when the other end is closed and everything is read. Cancel-safe.
    pub async fn receive(&self) -> io::Result<Option<Message>> {
        let received = self.socket.async_io(Interest::READABLE, receive_now).await;
        match received {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CONNRESET) => Ok(None),
            other => other,
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

/// Sends a message through a socket of [`Channel::pair`] that is not registered with tokio, or fails with `WouldBlock`.
pub fn send_at_once(socket: &OwnedFd, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    Ok(send_now(socket, payload, descriptors)?)
}

/// Receives what has been sent so; fails with `WouldBlock` where nothing has.
pub fn receive_at_once(socket: &OwnedFd) -> io::Result<Option<Message>> {
    receive_now(socket)
}

fn send_now(socket: &OwnedFd, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::NOBUFS);
    }
    // A message goes as a whole or not at all (unix(7)).
    sendmsg(socket, &[IoSlice::new(payload)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

fn receive_now(socket: &OwnedFd) -> io::Result<Option<Message>> {
    let mut payload = vec![0; MESSAGE_LIMIT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut payload)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    // Owned from here on: whatever the checks below say, they are closed or handed on.
    let descriptors = descriptors_of(&mut control);
    if message.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message or its descriptors were cut off"));
    }
    if message.bytes == 0 {
        return Ok(None);
    }
    payload.truncate(message.bytes);
    Ok(Some(Message { payload, descriptors }))
}

/// All that came with a message.
pub(crate) fn descriptors_of(control: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let rights = |message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    };
    control.drain().filter_map(rights).flatten().collect()
}

/// Two of a relay's buffers and what describes them; below the 208 KiB that a Unix socket sends in one message by default
/// (net.core.wmem_default).
pub const MESSAGE_LIMIT: usize = 160 * 1024;

/// As many as the kernel passes with one message (include/net/scm.h, SCM_MAX_FD).
pub const DESCRIPTOR_LIMIT: usize = 253;

/// A receiver takes a message in some microseconds, so the first pause is the timer's own resolution.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn messages_and_their_descriptors_stay_together() {
        let (one, other) = Channel::pair().unwrap();
        let (sender, receiver) = (Channel::over(one).unwrap(), Channel::over(other).unwrap());
        let sending = tokio::spawn(async move {
            for length in 1..=200_usize {
                let (read, mut write) = io::pipe().unwrap();
                write.write_all(&[length as u8]).unwrap();
                let descriptors = vec![read.as_fd(); length];
                sender.send(&vec![length as u8; length * 800], &descriptors).await.unwrap();
            }
        });
        for length in 1..=200_usize {
            let Message { payload, mut descriptors } = receiver.receive().await.unwrap().unwrap();
            assert_eq!((payload.len(), descriptors.len()), (length * 800, length));
            let mut byte = [0];
            std::fs::File::from(descriptors.pop().unwrap()).read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], length as u8);
        }
        assert!(receiver.receive().await.unwrap().is_none());
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_such_socket_is_refused() {
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Channel::over(stream.into()).is_err());
        assert!(Channel::over(std::fs::File::open("/dev/null").unwrap().into()).is_err());
    }
}
