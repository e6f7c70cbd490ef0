//! The switch of one connection: what is prepared before the dial, and what happens between the dial and the moment
//! from which the program carries the packets. The hello stays unread in the client's socket until then, so that
//! everything up to the switch can still become a relay.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use connection::{DialError, dial, dial_with};
use router_common::cut_through::{CLIENT, Sighting};
use rustix::time::{ClockId, clock_gettime};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use super::CutThrough;
use super::eligibility::{self, DialShape};
use super::fallback::Fallback;
use super::flow::{FlowNote, NewFlow, Owner};
use super::flows::{EndSender, Place};
use super::opening::{Counted, Opening, SMALL, make_room};
use super::raw::{self, Repair, Sequences};
use super::record::{self, Described, Numbers, Side};

/// A client that may be cut through.
#[derive(Debug)]
pub struct Candidate {
    client: SocketAddr,
    local: SocketAddr,
    shape: DialShape,
    sighting: Sighting,
}

/// A connection to a backend.
#[derive(Debug)]
pub struct Dialled {
    /// The socket; without TCP_NODELAY as long as there is an attempt.
    pub backend: TcpStream,
    /// How to go on, or why the connection can only be relayed.
    pub attempt: Result<Attempt, Fallback>,
}

/// A client and a backend that may be cut through.
#[derive(Debug)]
pub struct Attempt {
    pub(super) client: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) client_sighting: Sighting,
    pub(super) backend: SocketAddr,
    pub(super) port: u16,
}

/// Why a connection was not cut through.
#[derive(Debug)]
pub enum NotCut {
    /// Both sockets are as they were.
    Relay {
        /// The client's.
        client: net::TcpStream,
        /// The backend's.
        backend: net::TcpStream,
        /// Why.
        reason: Fallback,
    },
    /// The switch failed half-way, and both ends have been reset.
    Broken(io::Error),
}

impl CutThrough {
    /// Decides over the client alone, so that the dial can offer the backend what the client has. `peer` is the socket's.
    pub fn prepare(&self, client: &impl AsFd, peer: SocketAddr) -> Result<Candidate, Fallback> {
        if self.state.leaving.has_begun() {
            return Err(Fallback::AnotherProcess);
        }
        let local = local_address(client)?;
        eligibility::address(peer)?;
        let shape = eligibility::client(&raw::connection_info(client)?)?;
        let sighting = self.state.sighting(&record::key(peer, local))?.ok_or_else(|| not_seen(client))?;
        self.untouched(sighting)?;
        Ok(Candidate { client: peer, local, shape, sighting })
    }

    /// Connects to the backend from a port of our own, offering what the client has. When no port is to be had, the
    /// kernel chooses one, and the connection can only be relayed.
    pub async fn dial(
        &self,
        candidate: &Candidate,
        backend: SocketAddr,
        time_limit: Duration,
    ) -> Result<Dialled, DialError> {
        let deadline = Instant::now() + time_limit;
        let remaining = || deadline.saturating_duration_since(Instant::now());
        let mut reason = eligibility::addresses(candidate.client, backend).err();
        if self.state.was_unseen(backend) {
            reason = reason.or(Some(Fallback::AcknowledgementUnseen));
        }
        let mut tries = 0..PORTS_TO_TRY;
        while reason.is_none() {
            let port = tries.next().and_then(|_| self.state.ports.take(backend));
            let Some(port) = port else {
                reason = Some(Fallback::NoPort);
                break;
            };
            let connected = match self.socket(candidate, backend, port) {
                Ok(socket) => dial_with(socket, backend, remaining()).await,
                Err(error) => Err(DialError::new(backend, error)),
            };
            match connected {
                Ok(socket) => {
                    let Candidate { client, local, sighting, .. } = *candidate;
                    let attempt = Attempt { client, local, client_sighting: sighting, backend, port };
                    return Ok(Dialled { backend: socket, attempt: Ok(attempt) });
                }
                // Somebody listens there, or the kernel still remembers a former connection: the next one.
                Err(DialError::NoLocalPort { .. }) => self.state.ports.give_back(backend, port),
                Err(error) => {
                    self.state.ports.give_back(backend, port);
                    return Err(error);
                }
            }
        }
        let socket = dial(backend, remaining()).await?;
        Ok(Dialled { backend: socket, attempt: Err(reason.unwrap_or(Fallback::NoPort)) })
    }

    /// Hands both connections to the kernel, or says why not. `idle_timeout` ends the flow when neither end sends;
    /// `to_worker` hears of its end.
    pub fn install(
        &self,
        attempt: Attempt,
        client: net::TcpStream,
        backend: net::TcpStream,
        described: Described,
        idle_timeout: Duration,
        to_worker: EndSender,
    ) -> Result<Place, NotCut> {
        let Some(counted) = Counted::enter(&self.state) else {
            return Err(self.relay(&attempt, client, backend, Fallback::AnotherProcess));
        };
        let place = match self.ready(&attempt, &client, &backend) {
            Ok(ready) => self.state.take_place().ok_or(Fallback::MapFull).map(|place| (ready, place)),
            Err(reason) => Err(reason),
        };
        let ((client_side, backend_side), place) = match place {
            Ok(found) => found,
            Err(reason) => return Err(self.relay(&attempt, client, backend, reason)),
        };
        let generation = self.state.table.read(place).generation.wrapping_add(1);
        let flow = record::flow(&client_side, &backend_side, &described.identity, generation, idle_timeout);
        let keys = [client_side.key(), backend_side.key()];
        self.state.table.write(place, flow);
        // From here on a crash resets the backend, and through it the client; see `Opening`.
        let lingering = SockRef::from(&backend).set_linger(Some(Duration::ZERO));
        if let Err(error) = lingering.and_then(|()| self.state.publish(place, &keys)) {
            self.state.give_back_place(place);
            let _ = SockRef::from(&backend).set_linger(None);
            return Err(self.relay(&attempt, client, backend, error.into()));
        }
        // From here on what the backend says is translated. What it said since `ready` only our TCP has; the backend has
        // nothing of the client yet, so that the relay can still have both.
        if spoke(&backend).unwrap_or(true) {
            self.state.withdraw([(place, &keys)]);
            self.state.give_back_place(place);
            let _ = SockRef::from(&backend).set_linger(None);
            return Err(self.relay(&attempt, client, backend, Fallback::BackendSpoke));
        }
        let start = client_side.stream_start();
        let forward = flow.directions[CLIENT].sequence_shift;
        let mut opening = Opening::new(counted, client.into(), backend.into(), start, forward);
        match opening.bring(&self.state, place) {
            Ok(_) => {
                self.state.hand_over(NewFlow {
                    place,
                    generation,
                    keys,
                    client: attempt.client,
                    local: attempt.local,
                    backend: attempt.backend,
                    port: attempt.port,
                    opening: Some(opening),
                    idle_timeout,
                    note: described.note.map_or(FlowNote::None, FlowNote::Here),
                    owner: Owner::Worker(to_worker),
                });
                Ok(Place { index: place, generation })
            }
            Err(error) => {
                self.state.withdraw([(place, &keys)]);
                opening.reset();
                self.state.give_back_place(place);
                self.give_up(&attempt);
                Err(NotCut::Broken(error))
            }
        }
    }

    /// Gives up an attempt whose sockets are gone.
    pub fn give_up(&self, attempt: &Attempt) {
        self.state.ports.give_back(attempt.backend, attempt.port);
    }

    /// Gives up an attempt whose connection is relayed.
    fn relay(&self, attempt: &Attempt, client: net::TcpStream, backend: net::TcpStream, reason: Fallback) -> NotCut {
        let _ = raw::set_repair(&client, Repair::OffWithoutProbe);
        let _ = raw::set_repair(&backend, Repair::OffWithoutProbe);
        let _ = backend.set_nodelay(true);
        self.give_up(attempt);
        NotCut::Relay { client, backend, reason }
    }

    /// Whether packets reach the program as their sender made them, or merged so that they can be cut again.
    fn untouched(&self, sighting: Sighting) -> Result<(), Fallback> {
        if self.state.merges(sighting.arrives) { Err(Fallback::ReceiveOffload) } else { Ok(()) }
    }

    fn socket(&self, candidate: &Candidate, backend: SocketAddr, port: u16) -> io::Result<TcpSocket> {
        let any: SocketAddr = match backend {
            SocketAddr::V4(_) => ([0, 0, 0, 0], port).into(),
            SocketAddr::V6(_) => ([0_u16; 8], port).into(),
        };
        let socket = if any.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Not `acknowledge_with_first_bytes`: what the client has sent behind its hello may be there first, and a host that has
        // not heard of the handshake's end answers it so that it then refuses the hello (tcp_check_req,
        // net/ipv4/tcp_minisocks.c: an echoed timestamp that no SYN-ACK had).
        socket.bind(any)?;
        // Out of the range that the kernel takes, the client's limit is none for anybody (net/ipv4/tcp.c).
        if (88..=32_767).contains(&candidate.shape.maximum_segment) {
            raw::set_maximum_segment(&socket, candidate.shape.maximum_segment)?;
        }
        self.state.announce(&record::dial_key(backend, port), candidate.shape.without)?;
        Ok(socket)
    }

    /// Checks both connections and reads their numbers. The client's socket is left in repair mode, so that it vanishes
    /// without a word even if this process dies; the backend's is left as it was.
    fn ready(&self, attempt: &Attempt, client: &impl AsFd, backend: &impl AsFd) -> Result<(Side, Side), Fallback> {
        let local = local_address(backend)?;
        let sighting = self.state.sighting(&record::key(attempt.backend, local))?.ok_or(Fallback::BackendNotSeen)?;
        self.untouched(sighting)?;
        let numbers = numbers(backend)?;
        // Behind the numbers: who has not spoken now had not when they were read.
        let backend_info = raw::connection_info(backend)?;
        raw::set_repair(backend, Repair::OffWithoutProbe)?;
        // Repair mode has ended it (net/ipv4/tcp.c, TCP_REPAIR), and other backends are dialled from the same port.
        SockRef::from(backend).set_reuse_address(true)?;
        let backend_side = Side { peer: attempt.backend, local, info: backend_info, numbers, unread: 0, sighting };

        let mut client_side = Side {
            peer: attempt.client,
            local: attempt.local,
            info: backend_info,
            numbers: self::numbers(client)?,
            unread: 0,
            sighting: attempt.client_sighting,
        };
        // Both values are of one moment when nothing arrived in between.
        loop {
            client_side.info = raw::connection_info(client)?;
            client_side.unread = raw::unread(client)?;
            let receive = raw::receive_sequence(client)?;
            if receive == client_side.numbers.receive {
                break;
            }
            client_side.numbers.receive = receive;
        }
        eligibility::both(&client_side.info, &backend_info)?;
        // What was seen may have been another connection's, of the same addresses and ports.
        if client_side.peers_syn() != client_side.sighting.sequence {
            return Err(not_seen(client));
        }
        if backend_side.own_syn() != backend_side.sighting.sequence {
            return Err(Fallback::BackendNotSeen);
        }
        let bytes = client_side.unread as usize;
        if bytes > SMALL && make_room(backend)? < bytes * 2 {
            return Err(Fallback::LongHello);
        }
        Ok((client_side, backend_side))
    }
}

/// Why the program has not seen the SYN of a client: it looks at none with IP options.
fn not_seen(client: &impl AsFd) -> Fallback {
    if raw::has_ip_options(client) { Fallback::IpOptions } else { Fallback::ClientNotSeen }
}

/// Whether our TCP has anything of the backend.
pub(super) fn spoke(backend: &impl AsFd) -> io::Result<bool> {
    let info = raw::connection_info(backend)?;
    Ok(info.received != 0 || info.out_of_order != 0)
}

/// Enters repair mode.
fn numbers(socket: &impl AsFd) -> io::Result<Numbers> {
    let Sequences { send, receive } = raw::enter_repair(socket)?;
    Ok(Numbers { send, receive, timestamp_offset: raw::timestamp(socket)?.wrapping_sub(monotonic_ms()) })
}

/// IPv4 as IPv4 also on a dual-stack socket.
fn local_address(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let address = SocketAddr::try_from(rustix::net::getsockname(socket)?)?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// CLOCK_MONOTONIC, which TCP's timestamps count in milliseconds.
fn monotonic_ms() -> u32 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).wrapping_mul(1000).wrapping_add(now.tv_nsec as u64 / 1_000_000) as u32
}

/// Ports that fail one after the other are a shortage, not bad luck.
const PORTS_TO_TRY: usize = 8;

#[cfg(test)]
mod tests;
