//! The terminator's side of one router's channel: takes connections out, sends counters back.

use std::borrow::Cow;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendFlags, Shutdown, SocketType, recvmsg, send, shutdown, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::message::{ProberReply, REQUEST_LIMIT, Request, STATUS_LIMIT, StatusReply, decode, encode};
use super::{Handoff, HandoffError, ProberStatus, ResolvedName, TerminatorStatus};
use crate::channel::descriptors_of;
use crate::seqpacket::register;

/// What came from a router.
#[derive(Debug)]
pub enum Received {
    /// A connection, unread, non-blocking; `tokio::net::TcpStream::from_std` makes it a worker's.
    /// With the socket that [`Handoff::has_source_socket`] tells of.
    Connection(Box<Handoff>, TcpStream, Option<OwnedFd>),
    /// What a name of backends stands for from now on.
    Addresses(ResolvedName),
    /// Answer with [`HandoffReceiver::send_status`].
    StatusRequest,
    /// Answer with [`HandoffReceiver::send_probed`]: from this backend on.
    ProbedRequest(usize),
}

/// One router's channel, as the terminator holds it.
#[derive(Debug)]
pub struct HandoffReceiver {
    socket: AsyncFd<OwnedFd>,
    buffer: Mutex<Box<[u8]>>,
    /// The number of the last status request, which the answer repeats.
    last_status_request: AtomicU64,
}

impl HandoffReceiver {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        // The kernel doubles it and caps it at net.core.wmem_max; a status has to fit in one message.
        sockopt::set_socket_send_buffer_size(&socket, 2 * STATUS_LIMIT)?;
        Ok(Self {
            socket: register(socket, Interest::READABLE | Interest::WRITABLE)?,
            // One byte more than is allowed, so that a message that is too long shows.
            buffer: Mutex::new(vec![0; REQUEST_LIMIT + 1].into_boxed_slice()),
            last_status_request: AtomicU64::new(0),
        })
    }

    /// The uid that the router's process had when it connected (SO_PEERCRED, unix(7)).
    pub fn peer_uid(&self) -> io::Result<u32> {
        Ok(sockopt::socket_peercred(&self.socket)?.uid.as_raw())
    }

    /// The next message; `None` when the router is gone, or after [`stop`](Self::stop) when everything queued has
    /// been received. After an error for which [`HandoffError::is_about_one_message`] holds, call it again.
    /// Cancel-safe.
    pub async fn recv(&self) -> Result<Option<Received>, HandoffError> {
        let mut received = None;
        let result = self
            .socket
            .async_io(Interest::READABLE, |socket| {
                received = self.recv_now(socket)?;
                Ok(())
            })
            .await;
        match result {
            Ok(()) => received.transpose(),
            // The router died while our status was under way to it.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CONNRESET) => Ok(None),
            Err(error) => Err(HandoffError::socket("receive", error)),
        }
    }

    /// Answers the last status request. An answer that the router does not take waits here; cancel-safe.
    pub async fn send_status(&self, status: &TerminatorStatus) -> Result<(), HandoffError> {
        let request = self.last_status_request.load(Ordering::Relaxed);
        let reply = encode(&StatusReply { request, status: Cow::Borrowed(status) }, STATUS_LIMIT)?;
        self.send_reply(&reply).await
    }

    /// Answers the last request for what was probed; the same otherwise.
    pub async fn send_probed(&self, page: ProberStatus) -> Result<(), HandoffError> {
        let request = self.last_status_request.load(Ordering::Relaxed);
        self.send_reply(&encode(&ProberReply { request, page }, STATUS_LIMIT)?).await
    }

    async fn send_reply(&self, reply: &[u8]) -> Result<(), HandoffError> {
        self.socket
            .async_io(Interest::WRITABLE, |socket| Ok(send(socket, reply, SendFlags::NOSIGNAL)?))
            .await
            .map(drop)
            .map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::PIPE | Errno::CONNRESET) => HandoffError::PeerGone,
                _ => HandoffError::socket("send status", error),
            })
    }

    /// Takes no further messages: what is queued is still received, the router's next send fails with
    /// [`HandoffError::PeerGone`].
    pub fn stop(&self) {
        // It fails only where the router is gone already.
        let _ = shutdown(&self.socket, Shutdown::Read);
    }

    /// `None` is the end of the channel; an outer error is the socket's, an inner one the message's.
    fn recv_now(&self, socket: &OwnedFd) -> io::Result<Option<Result<Received, HandoffError>>> {
        let mut buffer = self.buffer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_SEEN))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        // Owned from here on: whatever the checks below say, they are closed or handed on.
        let descriptors = descriptors_of(&mut control);
        if message.bytes == 0 && descriptors.is_empty() {
            return Ok(None);
        }
        let payload = buffer.get(..message.bytes).unwrap_or_default();
        Ok(Some(self.understand(payload, message.flags, descriptors)))
    }

    fn understand(
        &self,
        payload: &[u8],
        flags: ReturnFlags,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Received, HandoffError> {
        if flags.contains(ReturnFlags::CTRUNC) {
            return Err(HandoffError::DescriptorsLost);
        }
        if flags.contains(ReturnFlags::TRUNC) || payload.len() > REQUEST_LIMIT {
            return Err(HandoffError::TooLong { limit: REQUEST_LIMIT });
        }
        match decode(payload)? {
            Request::Connection(handoff) => {
                let count = descriptors.len();
                let mut descriptors = descriptors.into_iter();
                let (client, source) = match (descriptors.next(), descriptors.next(), handoff.has_source_socket) {
                    (Some(client), None, false) => (client, None),
                    (Some(client), Some(source), true) if count == 2 => (client, Some(stream_socket(source)?)),
                    _ => return Err(HandoffError::WrongDescriptors { count }),
                };
                Ok(Received::Connection(Box::new(handoff.into_owned()), connection(client)?, source))
            }
            Request::Addresses(resolved) => Ok(Received::Addresses(resolved.into_owned())),
            Request::Status(number) => {
                self.last_status_request.store(number, Ordering::Relaxed);
                Ok(Received::StatusRequest)
            }
            Request::Probed { request, from } => {
                self.last_status_request.store(request, Ordering::Relaxed);
                Ok(Received::ProbedRequest(from))
            }
        }
    }
}

fn connection(descriptor: OwnedFd) -> Result<TcpStream, HandoffError> {
    let connection = TcpStream::from(stream_socket(descriptor)?);
    connection.set_nonblocking(true).map_err(|error| HandoffError::socket("set non-blocking", error))?;
    Ok(connection)
}

fn stream_socket(descriptor: OwnedFd) -> Result<OwnedFd, HandoffError> {
    match sockopt::socket_type(&descriptor) {
        Ok(SocketType::STREAM) => Ok(descriptor),
        _ => Err(HandoffError::NotAConnection),
    }
}

/// Room for more than are allowed, so that a surplus is received, counted and closed here.
const DESCRIPTORS_SEEN: usize = 4;
