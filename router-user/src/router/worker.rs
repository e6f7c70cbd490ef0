//! One worker: a thread with a runtime of its own, its listening sockets, buffers and counters. Shares nothing that is
//! written with other workers but the listeners' permits.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use ::connection::access_log::AccessLog;
use ::connection::drain::DrainSignal;
use ::connection::relay::{RelayContext, RelayPolicy};
use ::connection::{Backends, Limits};
use config::{Config, DataPath, Mode};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use super::accept;
use super::carried::{self, CarriedConnections, Ends};
use super::connection_id::ConnectionIds;
use super::live::Live;
use super::peek::Peeker;
use super::terminator_link::TerminatorLink;
use crate::ebpf::cut_through::CuttingThrough;
use crate::ebpf::steer::Steering;
use crate::metrics::WorkerCounters;
use crate::routing::Routing;

/// What all workers share and none changes.
#[derive(Debug)]
pub struct Shared {
    /// The configuration that the routing was made from.
    pub config: Config,
    /// The routing policy.
    pub routing: Routing,
    /// One per tenant of mode Passthrough; `None` for the others, whose terminators have their own.
    pub backends: Vec<Option<Arc<Backends>>>,
    /// One per tenant: what it may use of the router.
    pub limits: Vec<Arc<Limits>>,
    /// One per listener; a permit lives as long as the router holds the connection.
    pub permits: Vec<Arc<Semaphore>>,
    /// What the kernel steers to the listeners.
    pub steering: Steering,
    /// What the kernel carries past the router.
    pub cut_through: CuttingThrough,
    /// Where connection lines go.
    pub access_log: Option<AccessLog>,
    /// Tells when to stop.
    pub drain: DrainSignal,
    /// One permit per worker that has ended.
    pub ended: Semaphore,
}

/// What the tasks of one worker share.
#[derive(Debug)]
pub(super) struct Worker {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// This worker's counters.
    pub counters: Arc<WorkerCounters>,
    /// Buffer and pipes of the relay.
    pub relay: RelayContext,
    /// One per listener, in the order of the configuration.
    pub peekers: Vec<Peeker>,
    /// One per tenant, in the order of the configuration; `None` for Passthrough.
    pub terminators: Vec<Option<TerminatorLink>>,
    /// Numbers for connections.
    pub(super) ids: ConnectionIds,
    /// Connections that the kernel carries.
    pub(super) carried: CarriedConnections,
    /// Connections that have not ended.
    pub(super) live: Live,
}

/// Starts the thread of worker `index`, which accepts from `sockets`, one per listener.
pub(super) fn spawn(
    index: usize,
    shared: Arc<Shared>,
    counters: Arc<WorkerCounters>,
    sockets: Vec<TcpListener>,
) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (worker, ends) = Worker::new(index, shared.clone(), counters);
        let result = LocalSet::new().block_on(&runtime, run(worker, ends, sockets));
        shared.ended.add_permits(1);
        result
    })
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>, counters: Arc<WorkerCounters>) -> (Self, Ends) {
        let config = &shared.config;
        let policy = match config.data_path {
            // Auto relays as long as cut-through is not proven on every path that it could take.
            DataPath::Auto | DataPath::CutThrough => RelayPolicy::Auto,
            DataPath::Splice => RelayPolicy::Splice,
            DataPath::Copy => RelayPolicy::Copy,
        };
        let with_ja4 = shared.access_log.is_some();
        let peekers =
            config.listeners.iter().map(|listener| Peeker::new(listener.client_hello.max_bytes, with_ja4)).collect();
        let terminators = config
            .tenants
            .iter()
            .map(|tenant| match tenant.mode {
                Mode::Passthrough => None,
                Mode::Terminate(_) => Some(TerminatorLink::new(config.handoff_socket(&tenant.name))),
            })
            .collect();
        let (carried, ends) = CarriedConnections::new();
        let worker = Self {
            relay: RelayContext::new(policy),
            peekers,
            terminators,
            ids: ConnectionIds::new(index),
            carried,
            live: Live::default(),
            shared,
            counters,
        };
        (worker, ends)
    }
}

/// Accepts until the drain, then stays until the last connection has ended.
async fn run(worker: Worker, ends: Ends, sockets: Vec<TcpListener>) -> io::Result<()> {
    let worker = Rc::new(worker);
    if let CuttingThrough::Running(_) = &worker.shared.cut_through {
        // Ends with the runtime: whom it waits for is counted as live.
        tokio::task::spawn_local(carried::accompany(worker.clone(), ends));
    }
    let mut accepting = JoinSet::new();
    for (listener, socket) in sockets.into_iter().enumerate() {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        accepting.spawn_local(accept::accept_loop(worker.clone(), listener, socket));
    }
    while accepting.join_next().await.is_some() {}
    worker.live.none_left().await;
    Ok(())
}

/// Permits of a listener, as a semaphore counts them.
pub(super) fn permit_count(max_connections: usize) -> u32 {
    u32::try_from(max_connections).unwrap_or(u32::MAX)
}
