//! The dial from the client's own address, for tenants with `clientAddress: Transparent`, and the one capability that it
//! needs. The host's routing has to bring the backends' answers here; docs/client-address.md says how.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ::connection::{DialError, acknowledge_with_first_bytes, dial_with};
use config::Config;
use rustix::thread::{CapabilitySet, capabilities};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tracing::warn;

use super::socket_options::{set_bind_address_no_port, set_transparent};

/// Connects as `client`, from a port that the kernel chooses, and sends `header`. A backend that cannot be connected to so
/// may be well for everybody else, so that only its refusal counts against it: a client whose way back does not lead
/// through this host must not take the backend from the others.
pub(super) async fn dial(
    client: IpAddr,
    backend: SocketAddr,
    time_limit: Duration,
    header: &[u8],
) -> Result<TcpStream, DialError> {
    let backend = SocketAddr::new(backend.ip().to_canonical(), backend.port());
    let client = client.to_canonical();
    if client.is_ipv4() != backend.is_ipv4() {
        return Err(DialError::OtherFamily { address: backend, client });
    }
    let failed = |source| DialError::new(backend, source);
    let socket = socket(client, backend).map_err(failed)?;
    let mut stream = match dial_with(socket, backend, time_limit).await {
        Ok(stream) => stream,
        Err(source @ (DialError::TimedOut { .. } | DialError::Unreachable { .. } | DialError::Failed { .. })) => {
            return Err(DialError::AsClient { address: backend, client, source: Box::new(source) });
        }
        Err(error) => return Err(error),
    };
    stream.set_nodelay(true).map_err(failed)?;
    // A new connection's send buffer takes far more than a header has.
    stream.write_all(header).await.map_err(failed)?;
    Ok(stream)
}

fn socket(client: IpAddr, backend: SocketAddr) -> io::Result<TcpSocket> {
    let socket = Socket::new(Domain::for_address(backend), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    set_transparent(&socket, backend.is_ipv6())?;
    set_bind_address_no_port(&socket)?;
    acknowledge_with_first_bytes(&socket)?;
    socket.bind(&SocketAddr::new(client, 0).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_client_of_the_other_family_is_told_before_anything_is_sent() {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = backend.local_addr().unwrap();
        let client: IpAddr = "2001:db8::7".parse().unwrap();
        let error = dial(client, address, Duration::from_secs(5), b"").await.unwrap_err();
        assert!(matches!(error, DialError::OtherFamily { .. }) && !error.is_the_backends(), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("connect to backend {address}: the client's address 2001:db8::7 is of the other family")
        );
    }
}
