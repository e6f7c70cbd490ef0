//! One worker: a thread with a runtime of its own, which serves the routers that connected to it. Shares nothing that is
//! written with other workers.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use connection::drain::DrainSignal;
use connection::handoff::{HandoffListener, HandoffReceiver};
use connection::relay::{RelayContext, RelayPolicy};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tracing::{Span, error, warn};

use super::{Shared, router_link};
use crate::counters::WorkerCounters;

/// What the tasks of one worker share.
#[derive(Debug)]
pub(super) struct Worker {
    /// What all workers share.
    pub(super) shared: Arc<Shared>,
    /// The worker's place among the counters.
    index: usize,
    /// The buffer of all its relays.
    pub(super) relay: RelayContext,
    /// Tells when to stop. A worker's copy lives until its last connection has ended.
    pub(super) drain: DrainSignal,
}

impl Worker {
    /// This worker's counters.
    pub(super) fn counters(&self) -> &WorkerCounters {
        &self.shared.counters[self.index]
    }
}

/// Routers in the order of their arrival: the worker whose turn it is accepts the next one. Turns are taken in the order
/// of asking (tokio's semaphore is fair), so routers are spread evenly. Closed until it is opened.
#[derive(Clone, Debug)]
pub(super) struct Door {
    listener: Arc<HandoffListener>,
    turn: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new(listener: HandoffListener) -> Self {
        Self { listener: Arc::new(listener), turn: Arc::new(Semaphore::new(0)) }
    }

    /// Lets routers in.
    pub(super) fn open(&self) {
        self.turn.add_permits(1);
    }

    /// The accepted channel belongs to the runtime of the caller. Cancel-safe: a turn that is not used goes back.
    async fn next_router(&self) -> io::Result<HandoffReceiver> {
        let _turn = self.turn.acquire().await.map_err(io::Error::other)?;
        self.listener.accept().await
    }
}

/// Starts the thread of worker `index`.
pub(super) fn spawn(index: usize, shared: Arc<Shared>, drain: DrainSignal, door: Door) -> io::Result<JoinHandle<()>> {
    let span = Span::current();
    Builder::new().name(format!("worker-{index}")).spawn(move || {
        // Everything on this thread happens for this tenant, so the span can stay entered.
        let _entered = span.entered();
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let worker = Rc::new(Worker { shared, index, relay: RelayContext::new(RelayPolicy::Copy), drain });
                LocalSet::new().block_on(&runtime, run(worker, door));
            }
            Err(error) => error!(%error, worker = index, "no runtime for a worker"),
        }
    })
}

async fn run(worker: Rc<Worker>, door: Door) {
    let mut links = JoinSet::new();
    let mut door_closed = pin!(last_call(&worker.drain));
    loop {
        // Each branch is cancel-safe: a turn, a look at a set and one timer for all rounds.
        tokio::select! {
            accepted = door.next_router() => match accepted {
                Ok(router) => {
                    links.spawn_local(router_link::serve(Rc::clone(&worker), router));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a router");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = links.join_next() => report_panic(ended.err()),
            () = &mut door_closed => break,
        }
    }
    // The socket's file goes away with the last worker's copy.
    drop(door);
    while let Some(ended) = links.join_next().await {
        report_panic(ended.err());
    }
}

/// A router that has connected may have handed connections over before it was accepted. Those are served too, so the door
/// stays open a little longer than the drain's begin.
async fn last_call(drain: &DrainSignal) {
    drain.draining().await;
    tokio::time::sleep(LAST_CALL).await;
}

fn report_panic(failure: Option<tokio::task::JoinError>) {
    if let Some(error) = failure.filter(tokio::task::JoinError::is_panic) {
        error!(%error, "a task of a router's channel panicked");
    }
}

/// Many times what a worker takes to accept one router.
const LAST_CALL: Duration = Duration::from_millis(100);

/// An error of accept(2) that is neither the peer's nor a lack of resources will not go away at once.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
