//! The accept step: a permit first, then the connection, then a task of its own.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::connection::serve;
use super::lazy_stream::LazyStream;
use super::live::{Live, LiveGuard};
use super::outcome::Shortage;
use super::permits::Permits;
use super::site::Listening;
use super::sources::SourceAdmission;
use super::worker::Worker;

/// Accepts until the drain, or until the other side of `closed` is gone; what the kernel has already completed by then is
/// still served.
pub(super) async fn accept_loop(
    worker: Rc<Worker>,
    mut listening: Listening,
    socket: AsyncFd<OwnedFd>,
    mut closed: oneshot::Receiver<()>,
) {
    let permits = listening.permits();
    let mut short_of_resources = false;
    let mut draining = pin!(worker.shared.drain.draining());
    let mut handed_over = pin!(worker.shared.hand_over.begun());
    loop {
        // Whoever waits is served first; the runtime makes `accept` pause now and then, so that the others have their turn.
        // It loses nothing when it is dropped: accept(2) happens in the poll that returns.
        let accepted = tokio::select! {
            biased;
            accepted = accept(&socket, &permits) => accepted,
            () = &mut draining => break,
            _ = &mut closed => break,
            () = &mut handed_over => match worker.shared.hand_over.keeps(listening.name()) {
                true => break,
                // The queue is the next process's, whose sockets are the same.
                false => return,
            },
        };
        match accepted {
            Ok(connection) => {
                short_of_resources = false;
                start(&worker, &mut listening, connection);
            }
            Err(error) => {
                // Otherwise the client gave up while it waited (ECONNABORTED and the network errors of accept(2)'s list).
                if let Some(shortage) = Shortage::of_accept(&error) {
                    worker.counters.accept_failed(shortage);
                    if !std::mem::replace(&mut short_of_resources, true) {
                        warn!(%error, "accept: short of resources, connections wait");
                    }
                    sleep(SHORTAGE_PAUSE).await;
                }
            }
        }
    }
    drain_accept_queue(&worker, &mut listening, &socket, &permits).await;
}

type Accepted = (OwnedSemaphorePermit, TcpStream, SocketAddr);

/// What a connection occupies as long as anything of it is there.
#[derive(Debug)]
pub(super) struct Held {
    /// One of its source's connections, where these are counted.
    pub(super) source: Option<SourceAdmission>,
    /// `None` for a connection that was handed over when none was free.
    _permit: Option<OwnedSemaphorePermit>,
    _live: LiveGuard,
}

impl Held {
    /// Of a connection that another process accepted: it is counted, but cannot be refused any more.
    pub(super) fn of_another_process(permits: Option<&Permits>, live: &Live) -> Self {
        Self { source: None, _permit: permits.and_then(Permits::acquire_now), _live: live.enter() }
    }
}

/// The connection does not block, and is nothing that the runtime knows.
async fn accept(socket: &AsyncFd<OwnedFd>, permits: &Permits) -> io::Result<Accepted> {
    let permit = permits.acquire().await.map_err(io::Error::other)?;
    let accept = |socket: &OwnedFd| Ok(acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?);
    let (stream, client) = socket.async_io(Interest::READABLE, accept).await?;
    let client = client.ok_or(Errno::AFNOSUPPORT)?.try_into()?;
    Ok((permit, stream.into(), client))
}

fn start(worker: &Rc<Worker>, listening: &mut Listening, (permit, stream, client): Accepted) {
    listening.refresh(worker.site());
    let (worker, listening) = (worker.clone(), listening.clone());
    let held = Held { source: None, _permit: Some(permit), _live: worker.live.enter() };
    let stream = LazyStream::Unregistered(stream);
    tokio::task::spawn_local(async move { serve(&worker, listening, stream, client, held).await });
}

/// Closing a listening socket resets what waits in its queue and whose handshake has begun, so both are served first.
async fn drain_accept_queue(
    worker: &Rc<Worker>,
    listening: &mut Listening,
    socket: &AsyncFd<OwnedFd>,
    permits: &Permits,
) {
    let (patience, longest) = match worker.shared.steering.is_taken_over() {
        true => (HANDSHAKE_PATIENCE, LONGEST_TAKE_OVER),
        false => (QUEUE_PATIENCE, LONGEST_QUEUE),
    };
    let deadline = Instant::now() + longest;
    loop {
        let quiet = deadline.min(Instant::now() + patience);
        match timeout_at(quiet, accept(socket, permits)).await {
            Ok(Ok(connection)) => start(worker, listening, connection),
            Ok(Err(error)) => {
                // Connections that end give back what these need.
                if let Some(shortage) = Shortage::of_accept(&error) {
                    worker.counters.accept_failed(shortage);
                    if timeout_at(deadline, sleep(SHORTAGE_PAUSE)).await.is_err() {
                        return;
                    }
                }
            }
            Err(_elapsed) => return,
        }
    }
}

/// A shortage ends when a connection ends; asking more often would only burn the processor.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// An accept queue that gives nothing for this long is empty.
const QUEUE_PATIENCE: Duration = Duration::from_millis(5);

/// A port that others connect to all the time is never quiet; what was in the queue has long been taken by then.
const LONGEST_QUEUE: Duration = Duration::from_secs(1);

/// Another process gets the new connections: what comes now began before. Long enough for a SYN-ACK to be sent for the
/// third time (after 1 s and 2 s more, RFC 6298 section 2).
const HANDSHAKE_PATIENCE: Duration = Duration::from_millis(3500);

/// The bound address may still be connected to.
const LONGEST_TAKE_OVER: Duration = Duration::from_secs(10);
