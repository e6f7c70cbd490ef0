//! One relay: both directions and what can interrupt them, as a single future.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::context::RelayContext;
use super::direction::{Direction, Failure, Pumped};
use super::end::{DataPath, RelayEnd, RelayOutcome};
use super::side::Side;
use super::suspended::SuspendedDirection;
use super::traffic::Traffic;
use super::watch::{Interruption, OnOwnWake, interrupted};

/// Both directions between two sides.
pub(super) struct Session<'a, C, B> {
    context: &'a RelayContext,
    client: C,
    backend: B,
    client_to_backend: Direction,
    backend_to_client: Direction,
    traffic: &'a Traffic,
}

impl<'a, C: Side, B: Side> Session<'a, C, B> {
    pub(super) fn new(context: &'a RelayContext, client: C, backend: B, traffic: &'a Traffic) -> Self {
        Self {
            context,
            client,
            backend,
            client_to_backend: Direction::new(context),
            backend_to_client: Direction::new(context),
            traffic,
        }
    }

    /// Goes on with directions that were suspended.
    pub(super) fn resume(
        mut self,
        client_to_backend: SuspendedDirection,
        backend_to_client: SuspendedDirection,
    ) -> Self {
        self.client_to_backend = Direction::resume(self.context, client_to_backend);
        self.backend_to_client = Direction::resume(self.context, backend_to_client);
        self
    }

    /// Relays to the end. The sockets are those under the session's two sides.
    pub(super) async fn run(
        mut self,
        client: &TcpStream,
        backend: &TcpStream,
        idle_timeout: Duration,
        stop: impl Future<Output = ()>,
    ) -> RelayEnd {
        let last_activity = Cell::new(Instant::now());
        match self.relay(client, backend, &last_activity, idle_timeout, stop, pending()).await {
            Interruption::End(outcome) => self.end(outcome),
            Interruption::Suspended => self.end(RelayOutcome::Stopped),
        }
    }

    /// The same until `suspend` resolves; then nothing is under way. `last_activity` is when a byte last moved.
    pub(super) async fn relay(
        &mut self,
        client: &TcpStream,
        backend: &TcpStream,
        last_activity: &Cell<Instant>,
        idle_timeout: Duration,
        stop: impl Future<Output = ()>,
        suspend: impl Future<Output = ()>,
    ) -> Interruption {
        let interruption = pin!(interrupted(client, backend, last_activity, idle_timeout, stop, suspend));
        let mut interruption = OnOwnWake::new(interruption);
        poll_fn(|task| {
            let before = self.activity();
            // What had arrived before a reset is passed on before the reset is.
            let pumped = self.pump(task);
            if self.activity() != before {
                last_activity.set(Instant::now());
            }
            match pumped {
                Poll::Ready(outcome) => Poll::Ready(Interruption::End(outcome)),
                Poll::Pending => interruption.poll(task),
            }
        })
        .await
    }

    /// What another relay goes on with.
    pub(super) fn suspend(self) -> io::Result<[SuspendedDirection; 2]> {
        Ok([self.client_to_backend.suspend()?, self.backend_to_client.suspend()?])
    }

    fn pump(&mut self, task: &mut Context<'_>) -> Poll<RelayOutcome> {
        let (client, backend) = (&mut self.client, &mut self.backend);
        let delivered = self.client_to_backend.delivered();
        let to_backend = self.client_to_backend.pump(task, client, backend, self.context);
        count(&self.traffic.client_to_backend, self.client_to_backend.delivered() - delivered);
        let to_backend = match to_backend {
            Ok(pumped) => pumped,
            Err(Failure::Source(error)) => return Poll::Ready(RelayOutcome::of_client(error)),
            Err(Failure::Sink(error)) => return Poll::Ready(RelayOutcome::of_backend(error)),
        };
        let delivered = self.backend_to_client.delivered();
        let to_client = self.backend_to_client.pump(task, backend, client, self.context);
        count(&self.traffic.backend_to_client, self.backend_to_client.delivered() - delivered);
        let to_client = match to_client {
            Ok(pumped) => pumped,
            Err(Failure::Source(error)) => return Poll::Ready(RelayOutcome::of_backend(error)),
            Err(Failure::Sink(error)) => return Poll::Ready(RelayOutcome::of_client(error)),
        };
        match (to_backend, to_client) {
            (Pumped::Ended, Pumped::Ended) => Poll::Ready(RelayOutcome::Ok),
            (Pumped::Yielding, _) | (_, Pumped::Yielding) => {
                // Woken again after the other tasks and after a look at the sockets, which a plain wake would skip.
                let yielded = pin!(tokio::task::yield_now()).poll(task);
                debug_assert!(yielded.is_pending(), "the first poll of a yield is the one that yields");
                Poll::Pending
            }
            _ => Poll::Pending,
        }
    }

    fn activity(&self) -> u64 {
        self.client_to_backend.activity().wrapping_add(self.backend_to_client.activity())
    }

    pub(super) fn end(self, outcome: RelayOutcome) -> RelayEnd {
        let directions = [&self.client_to_backend, &self.backend_to_client];
        let spliced = directions.iter().any(|direction| direction.spliced());
        let lacked_pipe = directions.iter().any(|direction| direction.lacked_pipe());
        RelayEnd {
            client_to_backend: self.client_to_backend.delivered(),
            backend_to_client: self.backend_to_client.delivered(),
            path: if spliced { DataPath::Splice } else { DataPath::Copy },
            fallback: lacked_pipe.then_some(NO_PIPE),
            outcome,
        }
    }
}

/// Once a turn, because a tenant's connections on other workers write to the same cache line.
fn count(counter: &AtomicU64, bytes: u64) {
    if bytes > 0 {
        counter.fetch_add(bytes, Ordering::Relaxed);
    }
}

const NO_PIPE: &str = "no_pipe";
