//! Moves bytes between a client and a backend until both directions have ended, one of them fails, or nothing has
//! moved for too long. A connection owns no buffer: all relays of a worker share one, and a direction that
//! turns out to be bulk moves to splice(2). Never dials, never accepts, never looks at a byte.

mod client_socket;
mod context;
mod direction;
mod end;
mod gear;
mod pipe_pool;
mod session;
mod side;
mod splice;
mod traffic;
mod watch;

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub use client_socket::ClientSocket;
pub use context::{RelayContext, RelayPolicy};
pub use end::{DataPath, RelayEnd, RelayOutcome};
pub use traffic::Traffic;

use crate::reset::close_will_reset;
use session::Session;
use side::{StreamSide, TcpSide};

/// Relays between two TCP connections; TCP_NODELAY should be set on both. Either ends with a FIN exactly where the
/// other one ended with a FIN, and with a RST otherwise. `stop` ends the relay early; callers that never do so pass
/// [`std::future::pending`]. If the returned future is dropped before it has resolved, both connections are reset.
pub async fn relay_tcp(
    context: &RelayContext,
    client: TcpStream,
    backend: TcpStream,
    idle_timeout: Duration,
    traffic: &Traffic,
    stop: impl Future<Output = ()>,
) -> RelayEnd {
    let client = ResetOnDrop::new(client);
    let backend = ResetOnDrop::new(backend);
    let session = Session::new(context, TcpSide(&client.socket), TcpSide(&backend.socket), traffic);
    let end = session.run(&client.socket, &backend.socket, idle_timeout, stop).await;
    if matches!(end.outcome, RelayOutcome::Ok) {
        client.close();
        backend.close();
    }
    end
}

/// Relays between a stream over a client's connection, such as TLS, and a backend; always by copying.
/// `client_socket` is a clone of the handle that `client` was built on. Everything else is as for [`relay_tcp`]; a
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
    let client_socket = ResetOnDrop::new(client_socket);
    let backend = ResetOnDrop::new(backend);
    let session = Session::new(context, StreamSide(client), TcpSide(&backend.socket), traffic);
    let end = session.run(client_socket.socket.tcp(), &backend.socket, idle_timeout, stop).await;
    match &end.outcome {
        RelayOutcome::Ok => {
            client_socket.close();
            backend.close();
        }
        // The client broke the stream's protocol and its alert is on the way: a RST would overtake it.
        RelayOutcome::ClientError(error) if error.kind() == io::ErrorKind::InvalidData => client_socket.close(),
        _ => {}
    }
    end
}

/// A socket whose close is a RST unless the relay came to its proper end.
struct ResetOnDrop<S: AsFd> {
    socket: S,
    armed: bool,
}

impl<S: AsFd> ResetOnDrop<S> {
    fn new(socket: S) -> Self {
        Self { socket, armed: true }
    }

    fn close(mut self) {
        self.armed = false;
    }
}

impl<S: AsFd> Drop for ResetOnDrop<S> {
    fn drop(&mut self) {
        if self.armed {
            close_will_reset(&self.socket);
        }
    }
}

#[cfg(test)]
mod tests;
