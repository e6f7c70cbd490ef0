//! Moves bytes between a client and a backend until both directions have ended, one of them fails, or nothing has
//! moved for too long. A connection owns no buffer: all relays of a worker share one, and a direction that
//! turns out to be bulk moves to splice(2). Never dials, never accepts, never looks at a byte.

mod context;
mod direction;
mod end;
mod gear;
mod pipe_pool;
mod session;
mod shared_socket;
mod side;
mod splice;
mod suspended;
mod traffic;
mod watch;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub use context::{RelayContext, RelayPolicy};
pub use end::{DataPath, RelayEnd, RelayOutcome};
pub use shared_socket::SharedSocket;
pub use suspended::{Progress, SuspendedDirection, SuspendedRelay, SuspendedStage};
pub use traffic::Traffic;

use crate::reset::close_will_reset;
use session::Session;
use side::{StreamSide, TcpSide};
use watch::Interruption;

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

/// How [`relay_tcp_until`] came to its end.
#[derive(Debug)]
pub enum Relayed {
    /// The relay is over.
    Ended(RelayEnd),
    /// `suspend` has resolved, and neither end has noticed anything.
    Suspended(Box<SuspendedRelay>),
}

/// The same until `suspend` resolves, between a client and a backend whose relay may be under way already.
pub async fn relay_tcp_until(
    context: &RelayContext,
    (client, backend): (TcpStream, TcpStream),
    progress: Progress,
    idle_timeout: Duration,
    traffic: &Traffic,
    stop: impl Future<Output = ()>,
    suspend: impl Future<Output = ()>,
) -> Relayed {
    let (client, backend) = (ResetOnDrop::new(client), ResetOnDrop::new(backend));
    let Progress { client_to_backend, backend_to_client, idle } = progress;
    let bytes = [client_to_backend.delivered, backend_to_client.delivered];
    let now = Instant::now();
    let last_activity = Cell::new(now.checked_sub(idle).unwrap_or(now));
    let session = Session::new(context, TcpSide(&client.socket), TcpSide(&backend.socket), traffic);
    let mut session = session.resume(client_to_backend, backend_to_client);
    let sockets = (&client.socket, &backend.socket);
    match session.relay(sockets.0, sockets.1, &last_activity, idle_timeout, stop, suspend).await {
        Interruption::End(outcome) => {
            let end = session.end(outcome);
            if matches!(end.outcome, RelayOutcome::Ok) {
                client.close();
                backend.close();
            }
            Relayed::Ended(end)
        }
        Interruption::Suspended => match suspended(session, sockets.0, sockets.1, last_activity.get()) {
            Ok(relay) => {
                // Only our descriptors: the others keep the connections.
                client.close();
                backend.close();
                Relayed::Suspended(Box::new(relay))
            }
            Err(error) => Relayed::Ended(RelayEnd::of_failure(bytes, error)),
        },
    }
}

fn suspended(
    session: Session<'_, TcpSide<'_>, TcpSide<'_>>,
    client: &TcpStream,
    backend: &TcpStream,
    last_activity: Instant,
) -> io::Result<SuspendedRelay> {
    // Others of the same sockets, because those that the runtime knows are given back to it.
    let (client, backend) = (client.as_fd().try_clone_to_owned()?, backend.as_fd().try_clone_to_owned()?);
    let [client_to_backend, backend_to_client] = session.suspend()?;
    let idle = last_activity.elapsed();
    let progress = Progress { client_to_backend, backend_to_client, idle };
    Ok(SuspendedRelay { client: client.into(), backend: backend.into(), progress })
}

/// A stream such as TLS, and the connection that it was built on.
#[derive(Debug)]
pub struct Layered<S> {
    /// What is read and written; built on a clone of `socket`.
    pub stream: S,
    /// Where resets are noticed and sent.
    pub socket: SharedSocket,
}

/// Relays between a stream over a client's connection and a backend; always by copying. Everything else is as for
/// [`relay_tcp`]; a client stream that ends with `UnexpectedEof` has been cut off, and the backend is reset.
pub async fn relay_stream(
    context: &RelayContext,
    client: Layered<impl AsyncRead + AsyncWrite + Unpin>,
    backend: TcpStream,
    idle_timeout: Duration,
    traffic: &Traffic,
    stop: impl Future<Output = ()>,
) -> RelayEnd {
    let client_socket = ResetOnDrop::new(client.socket);
    let backend = ResetOnDrop::new(backend);
    let session = Session::new(context, StreamSide(client.stream), TcpSide(&backend.socket), traffic);
    let end = session.run(client_socket.socket.tcp(), &backend.socket, idle_timeout, stop).await;
    close_in_order(&end.outcome, client_socket, backend);
    end
}

/// Relays between two streams. Everything else is as for [`relay_stream`]; a backend stream that ends with
/// `UnexpectedEof` has been cut off, and the client's is cut off at the same byte: its connection ends with a FIN, its
/// stream without an end of its own.
pub async fn relay_streams(
    context: &RelayContext,
    client: Layered<impl AsyncRead + AsyncWrite + Unpin>,
    backend: Layered<impl AsyncRead + AsyncWrite + Unpin>,
    idle_timeout: Duration,
    traffic: &Traffic,
    stop: impl Future<Output = ()>,
) -> RelayEnd {
    let client_socket = ResetOnDrop::new(client.socket);
    let backend_socket = ResetOnDrop::new(backend.socket);
    let session = Session::new(context, StreamSide(client.stream), StreamSide(backend.stream), traffic);
    let end = session.run(client_socket.socket.tcp(), backend_socket.socket.tcp(), idle_timeout, stop).await;
    close_in_order(&end.outcome, client_socket, backend_socket);
    end
}

/// Closes without a RST what need not, or must not, be reset.
fn close_in_order(outcome: &RelayOutcome, client: ResetOnDrop<impl AsFd>, backend: ResetOnDrop<impl AsFd>) {
    match outcome {
        RelayOutcome::Ok => {
            client.close();
            backend.close();
        }
        // The peer broke the stream's protocol and our alert is on the way to it: a RST would overtake it.
        RelayOutcome::ClientError(error) if error.kind() == io::ErrorKind::InvalidData => client.close(),
        RelayOutcome::BackendError(error) if error.kind() == io::ErrorKind::InvalidData => backend.close(),
        // What came before the cut is on its way to the client, and a RST could overtake that.
        RelayOutcome::BackendTruncated => client.close(),
        _ => {}
    }
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
