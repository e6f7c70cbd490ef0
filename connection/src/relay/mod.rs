//! Moves bytes between a client and a backend until both directions have ended, one of them fails, or nothing has
//! moved for too long. A connection owns no buffer: all relays of a worker share one, and a direction that
//! turns out to be bulk moves to splice(2). Never dials, never accepts, never looks at a byte.

mod client_socket;
mod context;
mod traffic;

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub use client_socket::ClientSocket;
pub use context::{RelayContext, RelayPolicy};
pub use traffic::Traffic;

/// Relays between two TCP connections; TCP_NODELAY should be set on both. Either ends with a FIN exactly where the
/// other one ended with a FIN, and with a RST otherwise. `stop` ends the relay early; callers
/// that never do so pass [`std::future::pending`]. If the returned future is dropped before it has resolved, both
/// connections are reset.
pub async fn relay_tcp(
    context: &RelayContext,
    client: TcpStream,
    backend: TcpStream,
    idle_timeout: Duration,
    traffic: &Traffic,
    stop: impl Future<Output = ()>,
) -> RelayEnd {
    let _ = (context, idle_timeout, traffic, stop);
    let (mut client, mut backend) = (client, backend);
    let moved = tokio::io::copy_bidirectional(&mut client, &mut backend).await.unwrap_or_default();
    RelayEnd {
        client_to_backend: moved.0,
        backend_to_client: moved.1,
        path: DataPath::Copy,
        fallback: None,
        outcome: RelayOutcome::Ok,
    }
}

/// Relays between a stream over a client's connection, such as TLS, and a backend; always by copying. `client_socket`
/// is a clone of the handle that `client` was built on. Everything else is as for [`relay_tcp`]; a
/// client stream that ends with `UnexpectedEof` has been cut off, and the backend is reset.
pub async fn relay_stream(
    context: &RelayContext,
    client: impl AsyncRead + AsyncWrite + Unpin,
    client_socket: ClientSocket,
    backend: TcpStream,
    idle_timeout: Duration,
    traffic: &Traffic,
    stop: impl Future<Output = ()>,
) -> RelayEnd {
    let _ = (context, client_socket, idle_timeout, traffic, stop);
    let (mut client, mut backend) = (client, backend);
    let moved = tokio::io::copy_bidirectional(&mut client, &mut backend).await.unwrap_or_default();
    RelayEnd {
        client_to_backend: moved.0,
        backend_to_client: moved.1,
        path: DataPath::Copy,
        fallback: None,
        outcome: RelayOutcome::Ok,
    }
}

/// What a relay did and how it ended.
#[derive(Debug)]
pub struct RelayEnd {
    /// Bytes that were written to the backend.
    pub client_to_backend: u64,
    /// Bytes that were written to the client.
    pub backend_to_client: u64,
    /// The best rung that either direction used.
    pub path: DataPath,
    /// Why a direction that should have been spliced was copied: `no_pipe`.
    pub fallback: Option<&'static str>,
    /// How it ended.
    pub outcome: RelayOutcome,
}

/// How bytes were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DataPath {
    /// Through the worker's buffer.
    Copy,
    /// Through a pipe, without leaving the kernel.
    Splice,
}

impl DataPath {
    /// The label of counters and of the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Splice => "splice",
        }
    }
}

/// How a relay ended.
#[derive(Debug)]
pub enum RelayOutcome {
    /// Both sides ended with a FIN and everything was delivered.
    Ok,
    /// The client sent a RST, which the backend got too.
    ClientReset,
    /// The backend sent a RST, which the client got too.
    BackendReset,
    /// The client's stream ended without its proper end (TLS close_notify); the backend was reset.
    ClientTruncated,
    /// No byte moved for the idle timeout; both were reset.
    IdleTimeout,
    /// The caller's `stop` resolved; both were reset.
    Stopped,
    /// The client's connection or stream failed otherwise; the backend was reset.
    ClientError(io::Error),
    /// The backend's connection failed otherwise; the client was reset.
    BackendError(io::Error),
}

impl RelayOutcome {
    /// The label of counters and of the access log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::ClientTruncated => "client_truncated",
            Self::IdleTimeout => "idle_timeout",
            Self::Stopped => "stopped",
            Self::ClientError(_) => "client_error",
            Self::BackendError(_) => "backend_error",
        }
    }
}
