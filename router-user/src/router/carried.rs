//! What a worker keeps of the connections that the kernel carries, until it hears of their ends: a few words each, no
//! task and no socket.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::TcpStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::connection::Lease;
use ::connection::limits::Admission;
use config::Tenant;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::debug;

use super::accept::Held;
use super::access::CarriedRecord;
use super::cut_through::count;
use super::outcome::Mode;
use super::passthrough;
use super::worker::Worker;
use crate::ebpf::cut_through::{CutThrough, EndSender, Fallback, Fate, FlowEnd, Place};
use crate::metrics::{Active, TenantCounters};

/// All of one worker.
#[derive(Debug)]
pub(super) struct CarriedConnections {
    by_place: RefCell<HashMap<Place, CarriedConnection>>,
    to_worker: EndSender,
}

/// What a connection occupies and what its last words need.
#[derive(Debug)]
pub(super) struct CarriedConnection {
    pub(super) settings: Arc<Tenant>,
    pub(super) counters: Arc<TenantCounters>,
    pub(super) record: CarriedRecord,
    pub(super) _active: Active,
    pub(super) _lease: Lease,
    pub(super) _admission: Admission,
    pub(super) _held: Held,
}

/// Where [`accompany`] hears of ends. Its bound is that of the flows: each ends once.
pub(super) type Ends = UnboundedReceiver<(Place, Fate)>;

impl CarriedConnections {
    pub(super) fn new() -> (Self, Ends) {
        let (to_worker, ends) = unbounded_channel();
        (Self { by_place: RefCell::default(), to_worker }, ends)
    }

    /// For the flows of this worker.
    pub(super) fn end_sender(&self) -> EndSender {
        self.to_worker.clone()
    }

    /// Before the next await after the switch, so that no end is heard of too early.
    pub(super) fn insert(&self, place: Place, connection: CarriedConnection) {
        self.by_place.borrow_mut().insert(place, connection);
    }

    fn ended(&self, worker: &Worker, place: Place, end: &FlowEnd) {
        let Some(connection) = self.by_place.borrow_mut().remove(&place) else { return };
        let outcome = count(&connection.counters, end);
        debug!(id = %connection.record.id(), outcome = outcome.label(), path = "cut_through", "ended");
        connection.record.end(worker.shared.access_log.as_ref(), end, Mode::Passthrough.label(), outcome);
    }

    /// It is relayed after all.
    fn returned(&self, worker: &Rc<Worker>, place: Place, (client, backend): (TcpStream, TcpStream), reason: Fallback) {
        let Some(connection) = self.by_place.borrow_mut().remove(&place) else { return };
        worker.counters.cut_through.fetch_sub(1, Ordering::Relaxed);
        worker.counters.fallback(reason);
        tokio::task::spawn_local(passthrough::resume(worker.clone(), connection, client, backend));
    }

    /// Forgets those that go on without a router: the next process writes their lines.
    fn leave_to_the_kernel(&self, cut_through: &CutThrough) {
        self.by_place.borrow_mut().retain(|place, _| !cut_through.is_alone(*place));
    }
}

/// Waits for ends as long as the worker lives. A drain waits only for the flows that still need this process.
pub(super) async fn accompany(worker: Rc<Worker>, mut ends: Ends) {
    let mut heard = Vec::new();
    let shared = Arc::clone(&worker.shared);
    let mut draining = pin!(async {
        // Both may be dropped: they look at a value.
        tokio::select! {
            () = shared.drain.draining() => {}
            () = shared.hand_over.begun() => {}
        }
    });
    let mut is_draining = false;
    loop {
        // No branch loses anything when it is dropped: `recv_many` takes in the poll that returns.
        tokio::select! {
            _ = ends.recv_many(&mut heard, ENDS_AT_A_TIME) => {}
            () = &mut draining, if !is_draining => is_draining = true,
            () = tokio::time::sleep(OPENING_POLL), if is_draining => {}
        }
        for (place, fate) in heard.drain(..) {
            match fate {
                Fate::Ended(end) => worker.carried.ended(&worker, place, &end),
                Fate::Returned { client, backend, reason } => {
                    worker.carried.returned(&worker, place, (client, backend), reason);
                }
            }
        }
        if let (true, Some(cut_through)) = (is_draining, worker.shared.cut_through.carrier()) {
            worker.carried.leave_to_the_kernel(cut_through);
        }
    }
}

/// Between two looks at the sockets.
const ENDS_AT_A_TIME: usize = 64;
/// A flow is opening for some milliseconds.
const OPENING_POLL: Duration = Duration::from_millis(5);
