//! Both sockets of a flow from the switch until the programs alone carry it: our own TCP still brings the backend what the
//! client had sent before.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags};
use socket2::SockRef;

use super::fallback::Fallback;
use super::flows::Fate;
use super::install::spoke;
use super::raw::{self, Repair};
use super::shared::State;

/// Both sockets of a flow until the backend has acknowledged what the client had sent to ours. The client's is in
/// repair mode; the backend's closes with a RST, so that a crash of the router in this window ends the connection: the
/// backend answers the client's next packet with a RST, which the program brings to it.
#[derive(Debug)]
pub(super) struct Opening {
    _counted: Counted,
    client: OwnedFd,
    backend: OwnedFd,
    /// The number of the client's first byte.
    start: u32,
    /// Everything before this number has been sent to the backend.
    brought: u32,
    forward: u32,
    since: Instant,
}

impl Opening {
    /// Of a flow that was just published: the client's bytes from `start` on are to be brought, and their numbers are
    /// `forward` higher towards the backend.
    pub(super) fn new(counted: Counted, client: OwnedFd, backend: OwnedFd, start: u32, forward: u32) -> Self {
        Self { _counted: counted, client, backend, start, brought: start, forward, since: Instant::now() }
    }

    /// How long the backend has acknowledged nothing. One that has no room for more answers all the same
    /// (RFC 9293 section 3.8.6.1).
    pub(super) fn unheard_for(&self) -> Duration {
        let unheard_for = raw::connection_info(&self.backend).map_or(Duration::MAX, |info| info.unheard_for);
        unheard_for.min(self.since.elapsed())
    }

    /// Sends the backend what has arrived in the client's socket and was not sent yet; whether there was anything. The
    /// hello is always there at first; later only packets that had passed the program just before the switch.
    pub(super) fn bring(&mut self, state: &State, place: u32) -> io::Result<bool> {
        let arrived = raw::receive_sequence(&self.client)?;
        if arrived == self.brought {
            return Ok(false);
        }
        let total = arrived.wrapping_sub(self.start) as usize;
        let mut bytes = vec![0; total];
        let (_, length) = rustix::net::recv(&self.client, &mut bytes[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        // A FIN has a number and no byte.
        let fin = length + 1 == total;
        if length != total && !fin {
            return Err(io::Error::other("the client's socket gave fewer bytes than it has"));
        }
        if total > SMALL {
            make_room(&self.backend)?;
        }
        if self.brought != self.start {
            // Our TCP has not heard that the backend has the hello, and would wait for that (RFC 9293 section 3.7.4).
            SockRef::from(&self.backend).set_tcp_nodelay(true)?;
        }
        state.table.set_owed(place, arrived, fin, arrived.wrapping_add(self.forward));
        let already = (self.brought.wrapping_sub(self.start) as usize).min(length);
        let sent =
            rustix::net::send(&self.backend, &bytes[already..length], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        if sent != length - already {
            return Err(io::Error::other("the backend's socket took only a part"));
        }
        if fin {
            SockRef::from(&self.backend).shutdown(std::net::Shutdown::Write)?;
        }
        self.brought = arrived;
        Ok(true)
    }

    /// Whether our TCP has nothing left to send, whatever the program has seen.
    pub(super) fn backend_has_all(&self) -> bool {
        raw::unacknowledged(&self.backend).is_ok_and(|bytes| bytes == 0)
    }

    /// Whether our TCP has bytes of the backend: those of packets that had passed the program before the keys were there.
    pub(super) fn backend_spoke(&self) -> bool {
        spoke(&self.backend).unwrap_or(true)
    }

    /// Both sockets as if the router had brought the client's bytes itself, for the relay. The flow's keys must be gone, and
    /// nothing but acknowledgements of the client may have passed the programs.
    pub(super) fn take_back(self, reason: Fallback) -> io::Result<Fate> {
        raw::set_repair(&self.client, Repair::OffWithoutProbe)?;
        let mut brought = vec![0; self.brought.wrapping_sub(self.start) as usize];
        // A FIN among them has a number and no byte.
        rustix::net::recv(&self.client, &mut brought[..], RecvFlags::DONTWAIT)?;
        SockRef::from(&self.backend).set_linger(None)?;
        Ok(Fate::Returned { client: self.client.into(), backend: self.backend.into(), reason })
    }

    /// Behind the last byte that was brought, in the client's numbers.
    pub(super) fn brought(&self) -> u32 {
        self.brought
    }

    /// Both sockets vanish; neither end hears of it.
    pub(super) fn vanish(self) {
        // When that fails the close is a RST: the ends hear of it then.
        let _ = raw::set_repair(&self.backend, Repair::On);
    }

    /// Both ends get a RST.
    pub(super) fn reset(self) {
        let _ = SockRef::from(&self.client).set_linger(Some(Duration::ZERO));
        let _ = raw::set_repair(&self.client, Repair::OffWithoutProbe);
    }
}

/// Counts a flow that is opening, from before anything of it is in the maps.
#[derive(Debug)]
pub(super) struct Counted(Arc<State>);

impl Counted {
    /// `None` when the process leaves: nobody would accompany the flow, and the next process knows nothing of it.
    pub(super) fn enter(state: &Arc<State>) -> Option<Self> {
        state.opening.fetch_add(1, Ordering::SeqCst);
        let counted = Self(state.clone());
        // The collector looks at both the other way round, so that one of the two sees the other.
        (!state.leaving.has_begun()).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns how large the send buffer is, overhead included; net.core.wmem_max limits it.
pub(super) fn make_room(socket: &impl AsFd) -> io::Result<usize> {
    let socket = SockRef::from(socket);
    socket.set_send_buffer_size(LARGE_SEND_BUFFER)?;
    socket.send_buffer_size()
}

/// What fits into any send buffer.
pub(super) const SMALL: usize = 8 * 1024;
/// For what a client can have sent into a window that nobody has opened further; the kernel doubles it (socket(7)).
const LARGE_SEND_BUFFER: usize = 256 * 1024;
