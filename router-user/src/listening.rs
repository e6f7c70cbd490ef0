//! The listening sockets: one per worker and listener, sharing the port by SO_REUSEPORT. The supervisor binds and keeps
//! them, so that they outlive the router's processes; a router without one binds them itself.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::thread::available_parallelism;
use std::time::Duration;

use config::{Config, Listener};
use socket2::{Domain, Protocol, Socket, Type};

use crate::admin::{self, AdminBindError};
use crate::router::socket_options::set_defer_accept;

/// All of a configuration.
#[derive(Debug, Default)]
pub(crate) struct ListeningSockets {
    pub(crate) listeners: Vec<Bound>,
    /// At `admin.address`, where the configuration has one.
    pub(crate) admin: Option<TcpListener>,
}

/// One listener's.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) name: String,
    /// As it is configured.
    pub(crate) address: SocketAddr,
    /// One per worker.
    pub(crate) sockets: Vec<TcpListener>,
}

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("listener {name}: bind {address}: {source}{}", advice(source))]
    Listener { name: String, address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Admin(#[from] AdminBindError),
}

impl ListeningSockets {
    /// Binds all that `config` asks for.
    pub(crate) fn bind(config: &Config) -> Result<Self, BindError> {
        let workers = config.workers.or_else(|| available_parallelism().ok()).map_or(1, usize::from);
        let listeners = config.listeners.iter().map(|listener| Bound::bind(listener, workers));
        let listeners = listeners.collect::<Result<_, _>>()?;
        Ok(Self { listeners, admin: config.admin.map(admin::bind).transpose()? })
    }

    /// How many workers there are sockets for.
    pub(crate) fn workers(&self) -> usize {
        self.listeners.first().map_or(0, |bound| bound.sockets.len())
    }

    /// Other descriptors of the same sockets.
    pub(crate) fn share(&self) -> io::Result<Self> {
        let listeners = self.listeners.iter().map(Bound::share).collect::<io::Result<_>>()?;
        Ok(Self { listeners, admin: self.admin.as_ref().map(TcpListener::try_clone).transpose()? })
    }

    /// Adds sockets that somebody else has bound.
    pub(crate) fn add(&mut self, name: String, address: SocketAddr, sockets: Vec<OwnedFd>) {
        let sockets = sockets.into_iter().map(TcpListener::from);
        match self.listeners.iter_mut().find(|bound| bound.name == name) {
            Some(bound) => bound.sockets.extend(sockets),
            None => self.listeners.push(Bound { name, address, sockets: sockets.collect() }),
        }
    }

    /// Binds what `next` asks for beyond what there is.
    pub(crate) fn bind_missing(&self, next: &Config) -> Result<Vec<Bound>, BindError> {
        let missing = next.listeners.iter().filter(|wanted| !self.listeners.iter().any(|bound| bound.is(wanted)));
        missing.map(|listener| Bound::bind(listener, self.workers())).collect()
    }

    /// Adds sockets that were bound for `next`, and closes those that it has no use for.
    pub(crate) fn move_to(&mut self, next: &Config, more: Vec<Bound>) {
        self.listeners.retain(|bound| next.listeners.iter().any(|wanted| bound.is(wanted)));
        self.listeners.extend(more);
    }

    /// The sockets of each listener of `config`, in its order; of one that has none its name.
    pub(crate) fn in_order_of(&mut self, config: &Config) -> Result<Vec<Vec<TcpListener>>, String> {
        let own = |wanted: &Listener| {
            let found = self.listeners.iter_mut().find(|bound| bound.is(wanted)).ok_or_else(|| wanted.name.clone())?;
            Ok(std::mem::take(&mut found.sockets))
        };
        config.listeners.iter().map(own).collect()
    }
}

impl Bound {
    /// Binds one socket per worker. Port 0 is resolved by the first, so that all share one port.
    pub(crate) fn bind(listener: &Listener, workers: usize) -> Result<Self, BindError> {
        let fail = |source| BindError::Listener { name: listener.name.clone(), address: listener.address, source };
        refuse_if_taken(listener.address).map_err(fail)?;
        let mut sockets = Vec::with_capacity(workers);
        let mut address = listener.address;
        for _ in 0..workers {
            let socket = bind_one(address).map_err(fail)?;
            address = socket.local_addr().map_err(fail)?;
            sockets.push(socket);
        }
        Ok(Self { name: listener.name.clone(), address: listener.address, sockets })
    }

    /// Other descriptors of the same sockets.
    pub(crate) fn share(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { name: self.name.clone(), address: self.address, sockets })
    }

    /// Another address under the same name is another listener.
    fn is(&self, listener: &Listener) -> bool {
        self.name == listener.name && self.address == listener.address
    }
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
        Config::from_yaml(&yaml).unwrap().listeners.remove(0)
    }

    #[test]
    fn all_workers_share_one_port() {
        let mut probe = listener("127.0.0.1:1");
        probe.address.set_port(0);
        let ports: Vec<_> =
            Bound::bind(&probe, 3).unwrap().sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|&port| port == ports[0] && port != 0));
    }

    #[test]
    fn a_port_that_is_taken_is_refused_with_advice() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut probe = listener("127.0.0.1:1");
        probe.address = taken.local_addr().unwrap();
        let error = Bound::bind(&probe, 1).unwrap_err().to_string();
        assert!(error.contains("ss -ltnp"), "{error}");
    }
}
