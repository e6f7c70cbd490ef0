//! Opens the connection to a backend under a deadline, and says in words why it could not.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

/// Connects to a backend within `timeout`; TCP_NODELAY is set on the result.
pub async fn dial(address: SocketAddr, timeout: Duration) -> Result<TcpStream, DialError> {
    let connected = match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(connected) => connected,
        Err(_) => return Err(DialError::TimedOut { address }),
    };
    connected
        .and_then(|backend| backend.set_nodelay(true).map(|()| backend))
        .map_err(|source| DialError::new(address, source))
}

/// The same from a socket that the caller has prepared; TCP_NODELAY is as it was.
pub async fn dial_with(socket: TcpSocket, address: SocketAddr, timeout: Duration) -> Result<TcpStream, DialError> {
    match tokio::time::timeout(timeout, socket.connect(address)).await {
        Ok(connected) => connected.map_err(|source| DialError::new(address, source)),
        Err(_) => Err(DialError::TimedOut { address }),
    }
}

/// Connects as [`dial`] does and sends `header`, which is nothing or the bytes that the backend expects first.
pub async fn dial_announced(address: SocketAddr, timeout: Duration, header: &[u8]) -> Result<TcpStream, DialError> {
    let mut backend = dial(address, timeout).await?;
    // A new connection's send buffer takes far more than a header has.
    backend.write_all(header).await.map_err(|source| DialError::new(address, source))?;
    Ok(backend)
}

/// The same for a caller that sends more at once: see [`acknowledge_with_first_bytes`].
pub async fn dial_and_go_on(address: SocketAddr, timeout: Duration, header: &[u8]) -> Result<TcpStream, DialError> {
    let failed = |source| DialError::new(address, source);
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    acknowledge_with_first_bytes(&socket).map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    let mut backend = dial_with(socket, address, timeout).await?;
    backend.write_all(header).await.map_err(failed)?;
    Ok(backend)
}

/// Before connect(2): what ends the handshake is not a packet of its own but part of the first one with bytes, which
/// spares the hosts, and all between them, a packet of each connection (net/ipv4/tcp_input.c,
/// tcp_rcv_synsent_state_process). For callers that have those bytes: the kernel waits for them, 200 ms at most.
pub fn acknowledge_with_first_bytes(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_tcp_quickack(false)
}

/// Why a backend could not be connected to.
#[derive(Debug, Error)]
pub enum DialError {
    /// Nobody listens there, or its queue of connections is full and the host answers so.
    #[error("connect to backend {address}: refused")]
    Refused {
        /// The backend.
        address: SocketAddr,
    },
    /// No answer within the time limit.
    #[error("connect to backend {address}: timed out")]
    TimedOut {
        /// The backend.
        address: SocketAddr,
    },
    /// No route, or a router on the way said so.
    #[error("connect to backend {address}: unreachable: {source}")]
    Unreachable {
        /// The backend.
        address: SocketAddr,
        /// Which kind of unreachable.
        source: io::Error,
    },
    /// Every local port towards this backend is in use (ip_local_port_range), or there is no local address.
    #[error("connect to backend {address}: no local port or address left")]
    NoLocalPort {
        /// The backend.
        address: SocketAddr,
    },
    /// RLIMIT_NOFILE or the system's limit is reached.
    #[error("connect to backend {address}: out of file descriptors: {source}")]
    NoDescriptors {
        /// The backend.
        address: SocketAddr,
        /// Which limit.
        source: io::Error,
    },
    /// The kernel has no memory for another socket.
    #[error("connect to backend {address}: out of socket memory: {source}")]
    NoMemory {
        /// The backend.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A local firewall rule, a BPF program or a sandbox forbids it.
    #[error("connect to backend {address}: not permitted: {source}")]
    NotPermitted {
        /// The backend.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection was to come from the client's address, and nothing shows whose fault it is.
    #[error("{source}, from the client's address {client}: does the backend's way back lead through this host?")]
    AsClient {
        /// The backend.
        address: SocketAddr,
        /// The client.
        client: IpAddr,
        /// What failed.
        source: Box<DialError>,
    },
    /// The connection was to come from the client's address, which is of the other family.
    #[error("connect to backend {address}: the client's address {client} is of the other family")]
    OtherFamily {
        /// The backend.
        address: SocketAddr,
        /// The client.
        client: IpAddr,
    },
    /// Its TLS is not what the tenant trusts, or failed before that was known.
    #[error("TLS with backend {address}: {words}")]
    Tls {
        /// The backend.
        address: SocketAddr,
        /// What went wrong, in words.
        words: String,
    },
    /// The backends are names, and none of them has an address.
    #[error("connect to a backend: {name} has no address")]
    NoAddress {
        /// The first of them, with its port.
        name: String,
    },
    /// Every backend of the tenant is unhealthy, or has no weight.
    #[error("connect to a backend: none of {backends} is healthy")]
    NoneHealthy {
        /// How many there are.
        backends: usize,
    },
    /// Anything else, which the text names.
    #[error("connect to backend {address}: {source}")]
    Failed {
        /// The backend.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl DialError {
    /// The label of counters and of the access log's `reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "backend_refused",
            Self::TimedOut { .. } => "backend_timed_out",
            Self::Unreachable { .. } => "backend_unreachable",
            Self::NoLocalPort { .. } => "no_local_port",
            Self::NoDescriptors { .. } => "no_descriptors",
            Self::NoMemory { .. } => "no_memory",
            Self::NotPermitted { .. } => "backend_not_permitted",
            Self::AsClient { .. } => "client_address_failed",
            Self::OtherFamily { .. } => "client_address_family",
            Self::Tls { .. } => "backend_tls_failed",
            Self::NoAddress { .. } => "backend_no_address",
            Self::NoneHealthy { .. } => "none_healthy",
            Self::Failed { .. } => "backend_failed",
        }
    }

    /// The backend that was tried.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Refused { address }
            | Self::TimedOut { address }
            | Self::Unreachable { address, .. }
            | Self::NoLocalPort { address }
            | Self::NoDescriptors { address, .. }
            | Self::NoMemory { address, .. }
            | Self::NotPermitted { address, .. }
            | Self::AsClient { address, .. }
            | Self::OtherFamily { address, .. }
            | Self::Tls { address, .. }
            | Self::Failed { address, .. } => Some(*address),
            Self::NoAddress { .. } | Self::NoneHealthy { .. } => None,
        }
    }

    /// Whether it says something about the backend, not about this host.
    pub fn is_the_backends(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::TimedOut { .. }
                | Self::Unreachable { .. }
                | Self::Tls { .. }
                | Self::Failed { .. }
        )
    }

    /// Whether this host lacks something that it would lack for every other backend too.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::NoDescriptors { .. } | Self::NoMemory { .. } | Self::NotPermitted { .. })
    }

    /// By the system call's error.
    pub fn new(address: SocketAddr, source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::CONNREFUSED | Errno::CONNRESET) => Self::Refused { address },
            Some(Errno::TIMEDOUT) => Self::TimedOut { address },
            Some(Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN) => {
                Self::Unreachable { address, source }
            }
            Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => Self::NoLocalPort { address },
            Some(Errno::MFILE | Errno::NFILE) => Self::NoDescriptors { address, source },
            Some(Errno::NOMEM | Errno::NOBUFS) => Self::NoMemory { address, source },
            Some(Errno::ACCESS | Errno::PERM) => Self::NotPermitted { address, source },
            _ => Self::Failed { address, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_has_nodelay_set() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let backend = dial(listener.local_addr().unwrap(), Duration::from_secs(5)).await.unwrap();
        assert!(backend.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_named() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = dial(address, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, DialError::Refused { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("connect to backend {address}: refused"));
    }

    #[tokio::test]
    async fn a_backend_that_does_not_answer_times_out() {
        // A full accept queue drops further SYNs, which is a silent backend without any network set-up.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        let error = loop {
            match dial(address, Duration::from_millis(50)).await {
                Ok(connection) => queued.push(connection),
                Err(error) => break error,
            }
            assert!(queued.len() < 16, "the accept queue never fills");
        };
        assert!(matches!(error, DialError::TimedOut { .. }), "{error:?}");
    }

    #[test]
    fn each_errno_has_its_kind() {
        let address = SocketAddr::from(([10, 0, 0, 2], 443));
        for (errno, reason) in [
            (Errno::NETUNREACH, "backend_unreachable"),
            (Errno::HOSTUNREACH, "backend_unreachable"),
            (Errno::ADDRNOTAVAIL, "no_local_port"),
            (Errno::MFILE, "no_descriptors"),
            (Errno::NOBUFS, "no_memory"),
            (Errno::PERM, "backend_not_permitted"),
            (Errno::ACCESS, "backend_not_permitted"),
            (Errno::AFNOSUPPORT, "backend_failed"),
        ] {
            let error = DialError::new(address, errno.into());
            assert_eq!(error.reason(), reason);
            assert!(error.to_string().starts_with("connect to backend 10.0.0.2:443: "));
        }
    }
}
