//! Binds the listening sockets: one per worker and listener, sharing the port by SO_REUSEPORT.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use config::Listener;
use socket2::{Domain, Protocol, Socket, Type};

use super::socket_options::set_defer_accept;

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener {name}: bind {address}: {source}{}", advice(source))]
pub(super) struct BindError {
    name: String,
    address: SocketAddr,
    source: io::Error,
}

/// Binds one socket per worker. Port 0 is resolved by the first, so that all share one port.
pub(super) fn bind(listener: &Listener, workers: usize) -> Result<Vec<TcpListener>, BindError> {
    let fail = |source| BindError { name: listener.name.clone(), address: listener.address, source };
    refuse_if_taken(listener.address).map_err(fail)?;
    let mut sockets = Vec::with_capacity(workers);
    let mut address = listener.address;
    for _ in 0..workers {
        let socket = bind_one(address).map_err(fail)?;
        address = socket.local_addr().map_err(fail)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = tcp_socket(address)?;
    socket.set_reuse_port(true)?;
    set_defer_accept(&socket, DEFER_PATIENCE)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// SO_REUSEPORT would let a second router of the same user share the port in silence; a bind without it refuses.
fn refuse_if_taken(address: SocketAddr) -> io::Result<()> {
    tcp_socket(address)?.bind(&address.into())
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    // Connections of a former process in TIME_WAIT must not keep the port (tcp(7), socket(7)).
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` serves IPv4 too, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process listens there: ss -ltnp shows which)",
        io::ErrorKind::PermissionDenied => {
            " (ports below net.ipv4.ip_unprivileged_port_start need root or CAP_NET_BIND_SERVICE)"
        }
        io::ErrorKind::AddrNotAvailable => " (no interface of this host has the address)",
        _ => "",
    }
}

/// Connections that wait for accept(2), per worker; the kernel caps it at net.core.somaxconn, 4096 by default.
const BACKLOG: i32 = 4096;

/// How long the kernel keeps a silent connection to itself. Short, so that the hello's deadline, which starts at
/// accept(2), stays the one that silent clients meet.
const DEFER_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str) -> Listener {
        let yaml = format!(
            "listeners: [{{ name: tls, address: {address:?} }}]\ntenants: [{{ name: t, hostnames: [t.example], mode: Passthrough, backends: [{{ address: \"127.0.0.1:1\" }}] }}]"
        );
        config::Config::from_yaml(&yaml).unwrap().listeners.remove(0)
    }

    #[test]
    fn all_workers_share_one_port() {
        let mut probe = listener("127.0.0.1:1");
        probe.address.set_port(0);
        let ports: Vec<_> = bind(&probe, 3).unwrap().iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|&port| port == ports[0] && port != 0));
    }

    #[test]
    fn a_port_that_is_taken_is_refused_with_advice() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut probe = listener("127.0.0.1:1");
        probe.address = taken.local_addr().unwrap();
        let error = bind(&probe, 1).unwrap_err().to_string();
        assert!(error.contains("ss -ltnp"), "{error}");
    }
}
