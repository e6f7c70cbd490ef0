//! The router's side of the channel: puts connections in, asks for counters, notices the terminator's end.

use std::borrow::Cow;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, connect, recv, sendmsg,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use super::message::{ProberReply, REQUEST_LIMIT, Request, STATUS_LIMIT, StatusReply, decode, encode};
use super::waits::{HandoffWait, HandoffWaits};
use super::{Handoff, HandoffError, ProberStatus, ResolvedName, TerminatorStatus};
use crate::seqpacket::{register, seqpacket};

/// One channel to a terminator, as the router holds it. Tasks can share it.
#[derive(Debug)]
pub struct HandoffSender {
    socket: AsyncFd<OwnedFd>,
    status_requests: AtomicU64,
    /// Replies are read by one task at a time.
    status_turn: Mutex<()>,
    waits: Arc<HandoffWaits>,
}

impl HandoffSender {
    /// Connects to a terminator's socket; it does not block, since Unix sockets connect at once or fail. Needs a
    /// tokio runtime with I/O.
    pub fn connect(path: &Path) -> Result<Self, HandoffError> {
        let failed = |source: Errno| HandoffError::Connect { path: path.to_path_buf(), source: source.into() };
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        let socket = seqpacket().map_err(|source| match source {
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
                HandoffError::OutOfResources { path: path.to_path_buf(), source: source.into() }
            }
            _ => failed(source),
        })?;
        match connect(&socket, &address) {
            Ok(()) => Self::new(socket).map_err(|error| HandoffError::socket("register", error)),
            // EAGAIN: its backlog is full, so it is not accepting.
            Err(source @ (Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN)) => {
                Err(HandoffError::NotListening { path: path.to_path_buf(), source: source.into() })
            }
            Err(source) => Err(failed(source)),
        }
    }

    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        // PRIORITY is what `closed` waits with; see there.
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        Ok(Self {
            socket: register(socket, interest)?,
            status_requests: AtomicU64::new(0),
            status_turn: Mutex::new(()),
            waits: Arc::default(),
        })
    }

    /// Counts there what hand-offs wait for.
    #[must_use]
    pub fn counting(self, waits: Arc<HandoffWaits>) -> Self {
        Self { waits, ..self }
    }

    /// Hands one connection over; afterwards the caller closes its own descriptor, without reading from it or
    /// shutting it down. While the terminator's queue is full, or this host short of something, it waits: the caller
    /// limits the time. When it is dropped before its end, nothing was sent.
    pub async fn send(&self, handoff: &Handoff, connection: impl AsFd) -> Result<(), HandoffError> {
        self.send_with(handoff, connection, None).await
    }

    /// The same, with the socket that [`Handoff::has_source_socket`] tells of.
    pub async fn send_with(
        &self,
        handoff: &Handoff,
        connection: impl AsFd,
        source: Option<BorrowedFd<'_>>,
    ) -> Result<(), HandoffError> {
        let payload = encode(&Request::Connection(Cow::Borrowed(handoff)), REQUEST_LIMIT)?;
        match source {
            Some(source) => self.send_message(&payload, &[connection.as_fd(), source]).await,
            None => self.send_message(&payload, &[connection.as_fd()]).await,
        }
    }

    /// Tells what a name of backends stands for; connections that are sent later find it known. The caller limits the
    /// time; cancel-safe.
    pub async fn send_addresses(&self, resolved: &ResolvedName) -> Result<(), HandoffError> {
        let payload = encode(&Request::Addresses(Cow::Borrowed(resolved)), REQUEST_LIMIT)?;
        self.send_message(&payload, &[]).await
    }

    /// Asks the terminator for its counters. The caller limits the time; cancel-safe.
    pub async fn status(&self) -> Result<TerminatorStatus, HandoffError> {
        let answer = |reply: StatusReply<'_>| (reply.request, reply.status.into_owned());
        self.ask(Request::Status, |bytes| decode(bytes).map(answer)).await
    }

    /// Asks the prober of certificates for all that it knows. The caller limits the time; cancel-safe.
    pub async fn probed(&self) -> Result<ProberStatus, HandoffError> {
        let mut all = ProberStatus::default();
        loop {
            let from = all.backends.len();
            let answer = |reply: ProberReply| (reply.request, reply.page);
            let question = |request| Request::Probed { request, from };
            let mut page = self.ask(question, |bytes| decode(bytes).map(answer)).await?;
            let is_last = page.backends.is_empty() || !page.has_more || from >= MOST_PROBED;
            all.backends.append(&mut page.backends);
            if is_last {
                return Ok(ProberStatus { backends: all.backends, has_more: false, ..page });
            }
        }
    }

    /// One question and its answer, which carries the question's number.
    async fn ask<T>(
        &self,
        question: impl FnOnce(u64) -> Request<'static>,
        understand: impl Fn(&[u8]) -> Result<(u64, T), HandoffError>,
    ) -> Result<T, HandoffError> {
        let _turn = self.status_turn.lock().await;
        let request = self.status_requests.fetch_add(1, Ordering::Relaxed) + 1;
        let payload = encode(&question(request), REQUEST_LIMIT)?;
        self.send_message(&payload, &[]).await?;
        let mut buffer = vec![0; STATUS_LIMIT + 1];
        loop {
            let length = self.recv_reply(&mut buffer).await?;
            if length > STATUS_LIMIT {
                return Err(HandoffError::TooLong { limit: STATUS_LIMIT });
            }
            let (number, answer) = understand(buffer.get(..length).unwrap_or_default())?;
            // Otherwise it answers a request that was dropped before its answer came.
            if number == request {
                return Ok(answer);
            }
        }
    }

    /// Resolves when the terminator's end is closed, with or without messages left unread.
    pub async fn closed(&self) {
        // A wait for PRIORITY also ends at the end of the stream, and at nothing else: Unix sockets have no urgent
        // data. A wait for READABLE would have to clear the readiness that `status` waits for.
        if let Err(error) = self.socket.ready(Interest::PRIORITY).await {
            tracing::debug!(%error, "the runtime ends; so does the watch on the terminator");
        }
    }

    async fn send_message(&self, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), HandoffError> {
        let mut pause = SHORTEST_PAUSE;
        let mut counted = [false; HandoffWait::ALL.len()];
        loop {
            let sent = self
                .socket
                .async_io(Interest::WRITABLE, |socket| {
                    let sent = send_now(socket.as_fd(), payload, descriptors);
                    if let Some(wait) = sent.err().and_then(HandoffWait::of)
                        && !std::mem::replace(&mut counted[wait as usize], true)
                    {
                        self.waits.count(wait);
                    }
                    Ok(sent?)
                })
                .await;
            let Err(error) = sent else { return Ok(()) };
            match Errno::from_io_error(&error) {
                // No readiness tells when descriptors under way have been received, or when there is memory.
                Some(errno) if HandoffWait::of(errno).is_some() => {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
                Some(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Err(HandoffError::PeerGone),
                _ => return Err(HandoffError::socket("send", error)),
            }
        }
    }

    async fn recv_reply(&self, buffer: &mut [u8]) -> Result<usize, HandoffError> {
        let received = self
            .socket
            .async_io(Interest::READABLE, |socket| Ok(recv(socket, &mut *buffer, RecvFlags::empty())?.1))
            .await;
        match received {
            Ok(0) => Err(HandoffError::PeerGone),
            Ok(length) => Ok(length),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CONNRESET) => Err(HandoffError::PeerGone),
            Err(error) => Err(HandoffError::socket("receive status", error)),
        }
    }
}

fn send_now(socket: BorrowedFd<'_>, payload: &[u8], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        // Two descriptors fit into the space for two descriptors.
        return Err(Errno::NOBUFS);
    }
    // A seqpacket message goes as a whole or not at all (unix(7)).
    sendmsg(socket, &[IoSlice::new(payload)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// What a prober tells is taken on trust up to here: some 100 MiB, if all of it were as long as it may be.
const MOST_PROBED: usize = 1 << 16;

/// A receiver takes a message in some microseconds, so the first pause is the timer's own resolution.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);
