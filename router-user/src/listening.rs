//! The listening sockets: one per worker and listener, sharing the port by SO_REUSEPORT. The supervisor binds and keeps
//! them, or has them from the service manager, so that they outlive the router's processes; a router without one binds them itself.

mod once_free;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::thread::available_parallelism;
use std::time::Duration;

use config::{Config, Listener};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tracing::info;

pub(crate) use self::once_free::once_free;
use crate::admin::{self, AdminBindError};
use crate::passed::PassedSockets;
use crate::router::socket_options::set_defer_accept;

/// All of a configuration.
#[derive(Debug, Default)]
pub(crate) struct ListeningSockets {
    pub(crate) listeners: Vec<Bound>,
    /// At `admin.address`, where the configuration has one.
    pub(crate) admin: Option<TcpListener>,
    /// Whether that was bound by this process.
    pub(crate) admin_is_fresh: bool,
}

/// One listener's.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) name: String,
    /// As it is configured.
    pub(crate) address: SocketAddr,
    /// At least one per worker. Two may be the same socket.
    pub(crate) sockets: Vec<TcpListener>,
    /// How many of the last ones this process has bound.
    pub(crate) fresh: usize,
}

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("listener {name}: bind {address}: {source}{}", advice(source))]
    Listener { name: String, address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Admin(#[from] AdminBindError),
}

impl BindError {
    /// Whether another socket has the port.
    fn is_taken(&self) -> bool {
        let (Self::Listener { source, .. } | Self::Admin(AdminBindError { source, .. })) = self;
        source.kind() == io::ErrorKind::AddrInUse
    }
}

impl ListeningSockets {
    /// Binds all that `config` asks for.
    pub(crate) fn bind(config: &Config) -> Result<Self, BindError> {
        Self::bind_beside(&mut PassedSockets::default(), config)
    }

    /// The same, with the sockets that are there already.
    pub(crate) fn bind_beside(passed: &mut PassedSockets, config: &Config) -> Result<Self, BindError> {
        let workers = workers(config);
        let admin = config.admin.and_then(|address| passed.claim_admin(address));
        let listeners = config.listeners.iter().map(|listener| match passed.claim(listener, config) {
            sockets if sockets.is_empty() => Bound::bind(listener, workers),
            sockets => Bound::of_passed(listener, sockets, workers),
        });
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        listeners.iter().try_for_each(Bound::listen)?;
        let admin_is_fresh = admin.is_none() && config.admin.is_some();
        let admin = match (admin, config.admin) {
            (None, Some(address)) => Some(admin::bind(address)?),
            (admin, _) => admin,
        };
        Ok(Self { listeners, admin, admin_is_fresh })
    }

    /// Other descriptors of the same sockets.
    pub(crate) fn share(&self) -> io::Result<Self> {
        let listeners = self.listeners.iter().map(Bound::share).collect::<io::Result<_>>()?;
        let admin = self.admin.as_ref().map(TcpListener::try_clone).transpose()?;
        Ok(Self { listeners, admin, admin_is_fresh: false })
    }

    /// Adds sockets that somebody else has bound.
    pub(crate) fn add(&mut self, name: String, address: SocketAddr, sockets: Vec<OwnedFd>) {
        let sockets = sockets.into_iter().map(TcpListener::from);
        match self.listeners.iter_mut().find(|bound| bound.name == name) {
            Some(bound) => bound.sockets.extend(sockets),
            None => self.listeners.push(Bound { name, address, sockets: sockets.collect(), fresh: 0 }),
        }
    }

    /// Binds what `next` asks for beyond what there is.
    pub(crate) fn bind_missing(&self, next: &Config) -> Result<Vec<Bound>, BindError> {
        let missing = next.listeners.iter().filter(|wanted| !self.listeners.iter().any(|bound| bound.is(wanted)));
        let bound = missing.map(|listener| Bound::bind(listener, workers(next))).collect::<Result<Vec<_>, _>>()?;
        bound.iter().try_for_each(Bound::listen)?;
        Ok(bound)
    }

    /// All that `next` asks for: what there is of it, and the rest bound, but not listening, so that nobody waits there in
    /// vain if it comes to nothing. A listener keeps sockets that are more than its workers.
    pub(crate) fn bind_for(&self, next: &Config) -> Result<Self, BindError> {
        let listeners = next.listeners.iter().map(|listener| match self.listeners.iter().find(|b| b.is(listener)) {
            None => Bound::bind(listener, workers(next)),
            Some(bound) => {
                let fail =
                    |source| BindError::Listener { name: listener.name.clone(), address: listener.address, source };
                Bound::of_passed(listener, bound.share().map_err(fail)?.sockets, workers(next))
            }
        });
        let listeners = listeners.collect::<Result<_, _>>()?;
        let is_same = |admin: &&TcpListener| admin.local_addr().ok() == next.admin;
        let kept = self.admin.as_ref().filter(is_same).and_then(|admin| admin.try_clone().ok());
        let admin_is_fresh = kept.is_none() && next.admin.is_some();
        let admin = match (kept, next.admin) {
            (None, Some(address)) => Some(admin::bind(address)?),
            (kept, _) => kept,
        };
        Ok(Self { listeners, admin, admin_is_fresh })
    }

    /// The names of those that `next` has no use for.
    pub(crate) fn without_use_for<'s>(&'s self, next: &Config) -> impl Iterator<Item = &'s str> {
        let is_gone = |bound: &&Bound| !next.listeners.iter().any(|wanted| bound.is(wanted));
        self.listeners.iter().filter(is_gone).map(|bound| bound.name.as_str())
    }

    /// The names of those that are not in `next`.
    pub(crate) fn missing_in(&self, next: &Self) -> Vec<String> {
        let is_missing = |bound: &&Bound| {
            !next.listeners.iter().any(|other| (&other.name, other.address) == (&bound.name, bound.address))
        };
        self.listeners.iter().filter(is_missing).map(|bound| bound.name.clone()).collect()
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
        Ok(Self { name: listener.name.clone(), address: listener.address, sockets, fresh: workers })
    }

    /// At least one per worker, of sockets that are there already, which is at least one. Those beyond the workers stay, because
    /// closing one would reset what waits there. Where they let others share the port
    /// (SO_REUSEPORT), what is missing is bound beside them, and the kernel spreads connections evenly; otherwise workers share
    /// sockets, and whoever is first accepts.
    fn of_passed(listener: &Listener, mut sockets: Vec<TcpListener>, workers: usize) -> Result<Self, BindError> {
        let fail = |source| BindError::Listener { name: listener.name.clone(), address: listener.address, source };
        for socket in &sockets {
            set_defer_accept(socket, DEFER_PATIENCE).map_err(fail)?;
        }
        let (passed, mut fresh) = (sockets.len(), 0);
        while sockets.len() < workers {
            let shared = &sockets[sockets.len() % passed];
            let address = shared.local_addr().map_err(fail)?;
            let may_share = SockRef::from(shared).reuse_port().unwrap_or(false);
            match may_share.then(|| bind_one(address)) {
                Some(Ok(socket)) => {
                    sockets.push(socket);
                    fresh += 1;
                }
                // Another uid's port cannot be shared (socket(7), SO_REUSEPORT).
                Some(Err(_)) | None => sockets.push(shared.try_clone().map_err(fail)?),
            }
        }
        if passed + fresh < workers {
            info!(
                listener = listener.name,
                sockets = passed,
                workers,
                "workers share the listening sockets: ReusePort= is off"
            );
        }
        Ok(Self { name: listener.name.clone(), address: listener.address, sockets, fresh })
    }

    /// Those that this process has bound.
    pub(crate) fn fresh(&self) -> &[TcpListener] {
        &self.sockets[self.sockets.len() - self.fresh..]
    }

    /// Other descriptors of the same sockets.
    pub(crate) fn share(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { name: self.name.clone(), address: self.address, sockets, fresh: 0 })
    }

    /// From here on clients can connect. Does nothing to a socket that they could connect to already.
    pub(crate) fn listen(&self) -> Result<(), BindError> {
        let fail = |source| BindError::Listener { name: self.name.clone(), address: self.address, source };
        self.sockets.iter().try_for_each(listen).map_err(fail)
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
    Ok(socket.into())
}

/// From here on clients can connect; their sockets have TCP_NODELAY from this one (net/core/sock.c, sk_clone).
pub(crate) fn listen(socket: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.listen(BACKLOG)
}

/// How many workers a router has.
pub(crate) fn workers(config: &Config) -> usize {
    config.workers.or_else(|| available_parallelism().ok()).map_or(1, usize::from)
}

/// What each of the workers accepts from: as many sockets as every one can have of its own, and of the rest another descriptor
/// each, where whoever is first accepts.
pub(crate) fn deal(sockets: Vec<TcpListener>, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let own = sockets.len() / workers * workers;
    let mut hands: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for (number, socket) in sockets.into_iter().enumerate() {
        if number < own {
            hands[number % workers].push(socket);
        } else {
            hands.iter_mut().try_for_each(|hand| socket.try_clone().map(|shared| hand.push(shared)))?;
        }
    }
    Ok(hands)
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
    use std::io::Write;
    use std::net::TcpStream;

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
    fn what_is_accepted_sends_without_delay() {
        let socket = bind_one("127.0.0.1:0".parse().unwrap()).unwrap();
        listen(&socket).unwrap();
        socket.set_nonblocking(false).unwrap();
        let mut client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        client.write_all(b"hello").unwrap();
        assert!(socket.accept().unwrap().0.nodelay().unwrap());
    }

    #[test]
    fn one_socket_serves_all_workers_where_nobody_may_share_its_port() {
        let passed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = passed.local_addr().unwrap();
        let bound = Bound::of_passed(&listener("127.0.0.1:1"), vec![passed], 3).unwrap();
        assert_eq!((bound.sockets.len(), bound.fresh().len()), (3, 0));
        assert!(bound.sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
    }

    #[test]
    fn others_are_bound_beside_one_that_lets_them_share_its_port() {
        let passed = bind_one("127.0.0.1:0".parse().unwrap()).unwrap();
        listen(&passed).unwrap();
        let address = passed.local_addr().unwrap();
        let bound = Bound::of_passed(&listener("127.0.0.1:1"), vec![passed], 3).unwrap();
        assert_eq!((bound.sockets.len(), bound.fresh().len()), (3, 2));
        assert!(bound.sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        let fewer = Bound::of_passed(&listener("127.0.0.1:1"), bound.sockets, 2).unwrap();
        assert_eq!((fewer.sockets.len(), fewer.fresh().len()), (3, 0), "what waits in the third is not lost");
    }

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        let hands = |sockets: usize, workers| {
            let one = || TcpListener::bind("127.0.0.1:0").unwrap();
            let hands = deal((0..sockets).map(|_| one()).collect(), workers).unwrap();
            let ports =
                |hand: &Vec<TcpListener>| hand.iter().map(|s| s.local_addr().unwrap().port()).collect::<Vec<_>>();
            let all: std::collections::HashSet<_> = hands.iter().flat_map(ports).collect();
            assert_eq!(all.len(), sockets);
            hands.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(hands(2, 2), [1, 1]);
        assert_eq!(hands(5, 2), [3, 3], "two of its own, and one that both have");
        assert_eq!(hands(1, 3), [1, 1, 1]);
    }

    #[test]
    fn what_is_bound_for_later_takes_nobody_and_leaves_the_rest_alone() {
        let config = |workers, address: &str, admin: &str| {
            let head = format!("workers: {workers}\nadmin: {{ address: {admin:?} }}\n");
            let tenant =
                r#"{ name: t, hostnames: [t.example], mode: Passthrough, backends: [{ address: "127.0.0.1:1" }] }"#;
            Config::from_yaml(&format!("{head}listeners: [{{ name: tls, address: {address:?} }}]\ntenants: [{tenant}]"))
                .unwrap()
        };
        let free: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let [address, other, admin, other_admin] =
            [0, 1, 2, 3].map(|number: usize| free[number].local_addr().unwrap().to_string());
        drop(free);
        let now = ListeningSockets::bind(&config(1, &address, &admin)).unwrap();
        let more = now.bind_for(&config(3, &address, &admin)).unwrap();
        assert_eq!((more.listeners[0].sockets.len(), more.listeners[0].fresh().len()), (3, 2));
        assert!(!more.admin_is_fresh);
        assert_eq!(more.bind_for(&config(1, &address, &admin)).unwrap().listeners[0].sockets.len(), 3);
        let elsewhere = now.bind_for(&config(1, &other, &other_admin)).unwrap();
        assert!(elsewhere.admin_is_fresh);
        assert!(TcpStream::connect(&other).is_err(), "nobody is there to accept");
        elsewhere.listeners[0].listen().unwrap();
        TcpStream::connect(&other).unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(now.bind_for(&config(1, &address, &taken.local_addr().unwrap().to_string())).is_err());
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
