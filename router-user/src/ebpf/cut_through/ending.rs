//! Ends a flow that has no sockets any more: a socket with the end's numbers is made in repair mode, without a packet,
//! and closed so that it sends a RST. If the end was about to acknowledge more, the RST is off by that much and the end
//! challenges it (RFC 5961 section 3.2); the local TCP answers the challenge with a RST that fits.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use router_common::cut_through::{BACKEND, CLIENT, Direction, Flow, SENT_FROM};
use socket2::{Domain, Socket, Type};

use super::flow::NewFlow;
use super::raw::{self, Repair, Sequences};
use super::record;
use super::shared::State;

/// The flow's keys must be gone.
pub(super) fn reset_both(state: &State, flow: &NewFlow, record: &Flow) -> io::Result<()> {
    let client = reset(state, flow.local, flow.client, &record.directions[CLIENT]);
    // Our address towards the backend is where its packets were addressed to.
    let local = SocketAddr::new(flow.local_towards_backend(), flow.port);
    client.and(reset(state, local, flow.backend, &record.directions[BACKEND]))
}

/// The socket has a port that the kernel chose, and the program puts the flow's in its place: a listener's port may be
/// one that only privileged processes bind.
fn reset(state: &State, local: SocketAddr, end: SocketAddr, sent_by_end: &Direction) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(end), Type::STREAM.cloexec(), None)?;
    raw::set_repair(&socket, Repair::On)?;
    socket.bind(&SocketAddr::new(local.ip(), 0).into())?;
    let chosen = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
    state.announce(&record::dial_key(end, chosen), SENT_FROM | u32::from(local.port()) << 16)?;
    // The end expects next what it has acknowledged last.
    let sequences = Sequences { send: sent_by_end.acknowledged as u32, receive: sent_by_end.sent };
    raw::set_sequences(&socket, sequences)?;
    socket.connect(&end.into())?;
    socket.set_linger(Some(Duration::ZERO))?;
    raw::set_repair(&socket, Repair::OffWithoutProbe)
}
