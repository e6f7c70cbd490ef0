//! The dial from the client's own address, for tenants with `clientAddress: Transparent`, and the one capability that it
//! needs; for terminators, which have none, the socket for it. The host's routing has to bring the backends' answers here; docs/client-address.md says how.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ::connection::{DialError, SourceSocket, acknowledge_with_first_bytes};
use config::Config;
use rustix::thread::{CapabilitySet, capabilities};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tracing::warn;

use super::socket_options::{set_bind_address_no_port, set_transparent};

/// Connects as `client`, from a port that the kernel chooses, and sends `header`.
pub(super) async fn dial(
    client: IpAddr,
    backend: SocketAddr,
    time_limit: Duration,
    header: &[u8],
) -> Result<TcpStream, DialError> {
    let bound = bound_socket(client).and_then(|socket| acknowledge_with_first_bytes(&socket).map(|()| socket));
    let socket = bound.map_err(|source| DialError::new(backend, source))?;
    SourceSocket::new(socket.into(), client).dial(backend, time_limit, header).await
}

/// From which somebody, without any right to it, can connect as `client`.
pub(super) fn bound_socket(client: IpAddr) -> io::Result<Socket> {
    let client = SocketAddr::new(client.to_canonical(), 0);
    let socket = Socket::new(Domain::for_address(client), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    set_transparent(&socket, client.is_ipv6())?;
    set_bind_address_no_port(&socket)?;
    socket.bind(&client.into())?;
    Ok(socket)
}

/// What to keep besides `others`. CAP_NET_RAW where there is the choice: it changes nothing about the host's network.
pub(super) fn with_capability(others: CapabilitySet, config: &Config) -> CapabilitySet {
    if !config.has_transparent_tenants() || others.intersects(EITHER) {
        return others;
    }
    let had = capabilities(None).map(|sets| sets.permitted).unwrap_or(CapabilitySet::empty());
    others | if had.contains(CapabilitySet::NET_RAW) { CapabilitySet::NET_RAW } else { CapabilitySet::NET_ADMIN }
}

/// After the drop: says so where every dial as a client will fail.
pub(super) fn warn_without_capability(config: &Config) {
    let has = capabilities(None).is_ok_and(|sets| sets.effective.intersects(EITHER));
    if config.has_transparent_tenants() && !has {
        warn!("clientAddress: Transparent needs CAP_NET_RAW (or root at the start): no backend can be connected to so");
    }
}

/// Either is enough (net/ipv4/ip_sockglue.c and net/ipv6/ipv6_sockglue.c, IP_TRANSPARENT and IPV6_TRANSPARENT).
const EITHER: CapabilitySet = CapabilitySet::NET_RAW.union(CapabilitySet::NET_ADMIN);
