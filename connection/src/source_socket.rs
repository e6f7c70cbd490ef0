//! Dials from a client's own address, over a socket that somebody with the right to it has bound there. Makes no such socket,
//! and needs no right itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::connect_unspec;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::{DialError, dial_with};

/// A socket that is bound to a client's address and not connected (IP_TRANSPARENT and IPV6_TRANSPARENT, ip(7)). It serves for
/// one connection, whose socket it is as well from then on: drop it. Until then it serves for as many attempts as it takes.
#[derive(Debug)]
pub struct SourceSocket {
    socket: OwnedFd,
    client: IpAddr,
}

impl SourceSocket {
    /// `socket` does not block.
    pub fn new(socket: OwnedFd, client: IpAddr) -> Self {
        Self { socket, client: client.to_canonical() }
    }

    /// Connects, and sends `header`; TCP_NODELAY is set on the result. Needs a tokio runtime with I/O. A backend that cannot be
    /// connected to so may be well for everybody else, so that only its refusal counts against it: a client whose way back does
    /// not lead through this host must not take the backend from the others.
    pub async fn dial(&self, backend: SocketAddr, time_limit: Duration, header: &[u8]) -> Result<TcpStream, DialError> {
        let backend = SocketAddr::new(backend.ip().to_canonical(), backend.port());
        if self.client.is_ipv4() != backend.is_ipv4() {
            return Err(DialError::OtherFamily { address: backend, client: self.client });
        }
        let failed = |source| DialError::new(backend, source);
        let again = self.socket.try_clone().map_err(failed)?;
        match dial_with(TcpSocket::from_std_stream(again.into()), backend, time_limit).await {
            Ok(mut stream) => {
                stream.set_nodelay(true).map_err(failed)?;
                // A new connection's send buffer takes far more than a header has.
                stream.write_all(header).await.map_err(failed)?;
                Ok(stream)
            }
            Err(error) => {
                self.disconnect().map_err(failed)?;
                Err(match error {
                    DialError::TimedOut { .. } | DialError::Unreachable { .. } | DialError::Failed { .. } => {
                        DialError::AsClient { address: backend, client: self.client, source: Box::new(error) }
                    }
                    error => error,
                })
            }
        }
    }

    /// Ends an attempt that may still be under way; the address stays (net/ipv4/tcp.c, tcp_disconnect).
    fn disconnect(&self) -> io::Result<()> {
        connect_unspec(&self.socket)?;
        // What ended the attempt would pass for the next one's end.
        SockRef::from(&self.socket).take_error().map(drop)
    }
}

impl AsFd for SourceSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use socket2::{Domain, Socket, Type};

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));

    /// All of 127.0.0.0/8 is this host's, so that it takes no right.
    fn source_socket() -> SourceSocket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&SocketAddr::new(CLIENT, 0).into()).unwrap();
        SourceSocket::new(socket.into(), CLIENT)
    }

    #[tokio::test]
    async fn what_fails_leaves_the_socket_for_the_next_backend() {
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // A full accept queue drops further SYNs, which is a silent backend without any network set-up.
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let full = silent.local_addr().unwrap().as_socket().unwrap();
        let _first = std::net::TcpStream::connect(full).unwrap();
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();

        let socket = source_socket();
        let limit = Duration::from_millis(300);
        let error = socket.dial(refusing, limit, b"").await.unwrap_err();
        assert!(matches!(error, DialError::Refused { .. }) && error.is_the_backends(), "{error:?}");
        let error = socket.dial(full, limit, b"").await.unwrap_err();
        assert!(matches!(error, DialError::AsClient { .. }) && !error.is_the_backends(), "{error:?}");
        let dialled = socket.dial(backend.local_addr().unwrap(), Duration::from_secs(5), b"header").await.unwrap();
        // Both are the connection.
        drop((socket, dialled));
        let (accepted, seen) = backend.accept().unwrap();
        assert_eq!(seen.ip(), CLIENT);
        assert_eq!(io::read_to_string(accepted).unwrap(), "header");
    }

    #[tokio::test]
    async fn a_client_of_the_other_family_is_told_before_anything_is_sent() {
        let backend = TcpListener::bind("[::1]:0").unwrap();
        let address = backend.local_addr().unwrap();
        let error = source_socket().dial(address, Duration::from_secs(5), b"").await.unwrap_err();
        assert!(matches!(error, DialError::OtherFamily { .. }) && !error.is_the_backends(), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("connect to backend {address}: the client's address 127.0.0.77 is of the other family")
        );
    }
}
