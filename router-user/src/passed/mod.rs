//! Listening sockets that the service manager passes (sd_listen_fds(3)): those of a socket unit, and those that this service
//! gave it to keep. Says which listener each is for; binds nothing.

mod raw;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use config::{Config, Listener};
use rustix::net::{AddressFamily, SocketType, sockopt};
use tracing::{info, warn};

/// The sockets that nobody has claimed yet.
#[derive(Debug, Default)]
pub(crate) struct PassedSockets(Vec<Passed>);

#[derive(Debug)]
struct Passed {
    name: String,
    address: SocketAddr,
    socket: TcpListener,
}

impl PassedSockets {
    /// Those that the environment says are this process's. To be called once, before anything is opened.
    pub(crate) fn of_environment() -> Self {
        let variable = |name| std::env::var(name).ok();
        if variable("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
            return Self::default();
        }
        let count = variable("LISTEN_FDS").and_then(|count| count.parse().ok()).unwrap_or(0);
        let names = variable("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
        Self(
            raw::take(count)
                .into_iter()
                .zip(names)
                .filter_map(|(descriptor, name)| Passed::of(descriptor, name))
                .collect(),
        )
    }

    /// The sockets for this listener: those with its name, whatever their address, and those of other names that no listener
    /// has, which listen where it wants to.
    pub(crate) fn claim(&mut self, listener: &Listener, config: &Config) -> Vec<TcpListener> {
        let is_a_listener = |name: &str| config.listeners.iter().any(|listener| listener.name == name);
        let sockets = self.take(|passed| {
            passed.name == listener.name || (passed.address == listener.address && !is_a_listener(&passed.name))
        });
        if let Some(socket) = sockets.first()
            && let Ok(address) = socket.local_addr()
        {
            info!(listener = listener.name, %address, sockets = sockets.len(), "listening sockets of the service manager");
        }
        sockets
    }

    /// The socket for the admin endpoint.
    pub(crate) fn claim_admin(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.take(|passed| passed.address == address).into_iter().next()
    }

    /// Closes what nobody has claimed, and gives the names of those that were given to keep: of listeners that are gone.
    pub(crate) fn close(self) -> Vec<String> {
        let mut kept = Vec::new();
        for Passed { name, address, .. } in self.0 {
            if name.starts_with(LISTENER) || name == ADMIN {
                info!(name, %address, "a socket that was kept is no listener's any more");
                kept.push(name);
            } else {
                warn!(name, %address, "the service manager passes a socket that is no listener's, neither by address nor by name: closed");
            }
        }
        kept.sort_unstable();
        kept.dedup();
        kept
    }

    fn take(&mut self, is_wanted: impl Fn(&Passed) -> bool) -> Vec<TcpListener> {
        self.0.extract_if(.., |passed| is_wanted(passed)).map(|passed| passed.socket).collect()
    }
}

impl Passed {
    /// `None`, and a line, for what is no listening TCP socket.
    fn of(descriptor: OwnedFd, name: String) -> Option<Self> {
        let is_listening = sockopt::socket_acceptconn(&descriptor) == Ok(true)
            && sockopt::socket_type(&descriptor) == Ok(SocketType::STREAM)
            && [Ok(AddressFamily::INET), Ok(AddressFamily::INET6)].contains(&sockopt::socket_domain(&descriptor));
        let socket = TcpListener::from(descriptor);
        match (is_listening, socket.set_nonblocking(true).and_then(|()| socket.local_addr())) {
            (true, Ok(address)) => Some(Self { name, address, socket }),
            _ => {
                warn!(name, "the service manager passes what is no listening TCP socket: closed");
                None
            }
        }
    }
}

/// The name under which a listener's sockets are given to keep. A listener's own name has no dot in it, so neither is taken for
/// the other: what was kept goes by its address alone, which the file may have changed since.
pub(crate) fn kept_name(listener: &str) -> String {
    format!("{LISTENER}{listener}")
}

/// The name under which the admin endpoint's socket is given to keep.
pub(crate) const ADMIN: &str = "admin.address";

const LISTENER: &str = "listener.";

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(name: &str, socket: TcpListener) -> Passed {
        Passed::of(socket.into(), name.to_owned()).unwrap()
    }

    fn bound() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_listeners_name_decides_and_otherwise_the_address() {
        let [one, other, kept, named] = std::array::from_fn(|_| bound());
        let address = |socket: &TcpListener| socket.local_addr().unwrap();
        let (one_at, kept_at, other_at, named_at) = (address(&one), address(&kept), address(&other), address(&named));
        let yaml = format!(
            "listeners: [{{ name: a, address: \"{one_at}\" }}, {{ name: b, address: \"127.0.0.1:1\" }}, {{ name: c, address: \"{named_at}\" }}]\ntenants: [{{ name: t, hostnames: [t.example], mode: Passthrough, backends: [{{ address: \"127.0.0.1:1\" }}] }}]"
        );
        let config = Config::from_yaml(&yaml).unwrap();
        let mut sockets = PassedSockets(vec![
            passed("unknown", one),
            passed("listener.b", kept),
            passed("b", named),
            passed("admin.address", other),
        ]);
        let mut claim = |index: usize| -> Vec<SocketAddr> {
            sockets.claim(&config.listeners[index], &config).iter().map(address).collect()
        };
        assert_eq!(claim(0), [one_at]);
        // By its name, although c would have the address; what was kept for b listened elsewhere.
        assert_eq!((claim(2), claim(1)), (vec![], vec![named_at]));
        assert_eq!(sockets.claim_admin(other_at).map(|socket| address(&socket)), Some(other_at));
        assert_eq!(sockets.0[0].address, kept_at);
        assert_eq!(sockets.close(), ["listener.b"]);
    }

    #[test]
    fn what_does_not_listen_is_left_out() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Passed::of(one.into(), String::new()).is_none());
        let listener = bound();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(Passed::of(client.into(), String::new()).is_none());
        assert!(Passed::of(listener.into(), String::new()).is_some());
    }
}
