//! One worker: a thread with a runtime of its own, its listening sockets, buffers and counters. Shares nothing that is
//! written with other workers but the listeners' permits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use ::connection::access_log::AccessLog;
use ::connection::clock::instant_of;
use ::connection::descriptors::register;
use ::connection::drain::DrainSignal;
use ::connection::relay::{RelayContext, RelayPolicy};
use config::DataPath;
use tokio::io::Interest;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tracing::{debug, error};

use super::accept::{self, Held};
use super::carried::{self, CarriedConnections, Ends};
use super::connection::{Arrival, Unread, serve_unread};
use super::connection_id::ConnectionIds;
use super::hand_over::{HandOver, Successor, UnreadConnection};
use super::lazy_stream::LazyStream;
use super::live::Live;
use super::passthrough;
use super::policy::{LivePolicy, Policy};
use super::reload::Reloads;
use super::site::{Listening, Site};
use crate::ebpf::cut_through::CuttingThrough;
use crate::ebpf::steer::Steering;
use crate::listening::listen;
use crate::metrics::WorkerCounters;

/// What all workers share and none changes.
#[derive(Debug)]
pub struct Shared {
    /// The policy in force, for those who are not workers.
    pub policy: Arc<LivePolicy>,
    /// How reloads went.
    pub reloads: Reloads,
    /// What the kernel steers to the listeners.
    pub steering: Steering,
    /// What the kernel carries past the router.
    pub cut_through: CuttingThrough,
    /// Where connection lines go.
    pub access_log: Option<AccessLog>,
    /// Tells when to stop.
    pub drain: DrainSignal,
    /// Tells when another process is to have all connections.
    pub hand_over: HandOver,
    /// Whether somebody can be asked for reloads and upgrades.
    pub is_supervised: bool,
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
    /// Numbers for connections.
    pub(super) ids: ConnectionIds,
    /// Connections that the kernel carries.
    pub(super) carried: CarriedConnections,
    /// Connections that have not ended.
    pub(super) live: Live,
    index: usize,
    site: RefCell<Rc<Site>>,
}

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Instruction {
    /// By the start or a reload.
    Change(Change),
    /// By a former process that is gone.
    GoOn(Successor),
}

/// What the start or a reload tells a worker.
#[derive(Debug)]
pub(super) struct Change {
    /// The policy from now on.
    pub(super) policy: Arc<Policy>,
    /// Of the listeners that are new or have another address, by their names.
    pub(super) sockets: Vec<(String, TcpListener)>,
    /// Told when it is in force here.
    pub(super) applied: oneshot::Sender<()>,
}

/// Starts the thread of worker `index`, which accepts from the sockets that its instructions bring.
pub(super) fn spawn(
    index: usize,
    shared: Arc<Shared>,
    counters: Arc<WorkerCounters>,
    instructions: UnboundedReceiver<Instruction>,
) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (worker, ends) = Worker::new(index, shared.clone(), counters);
        let result = LocalSet::new().block_on(&runtime, run(Rc::new(worker), ends, instructions));
        shared.ended.add_permits(1);
        result
    })
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>, counters: Arc<WorkerCounters>) -> (Self, Ends) {
        let policy = shared.policy.current();
        let relay = match policy.config.data_path {
            DataPath::Auto | DataPath::CutThrough => RelayPolicy::Auto,
            DataPath::Splice => RelayPolicy::Splice,
            DataPath::Copy => RelayPolicy::Copy,
        };
        let (carried, ends) = CarriedConnections::new();
        let worker = Self {
            relay: RelayContext::new(relay),
            ids: ConnectionIds::new(),
            carried,
            live: Live::default(),
            site: RefCell::new(Rc::new(Site::new(policy, index, None))),
            index,
            shared,
            counters,
        };
        (worker, ends)
    }

    /// The site in force.
    pub(super) fn site(&self) -> Rc<Site> {
        self.site.borrow().clone()
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// What a connection of this listener occupies that another process has accepted, and has admitted for this client if
    /// there is one.
    pub(super) fn hold(&self, listener: Option<&str>, client: Option<IpAddr>) -> Held {
        let Some(listening) = listener.and_then(|name| Listening::at(self.site(), name.into())) else {
            return Held::of_another_process(None, &self.live);
        };
        let mut held = Held::of_another_process(Some(&listening.permits()), &self.live);
        if let (Some((bounds, sources)), Some(client)) = (listening.sources(), client) {
            held.source = sources.readmit(bounds, client);
        }
        held
    }

    /// Gives the former site, which may take a while to drop.
    fn move_to(&self, policy: Arc<Policy>) -> Rc<Site> {
        let next = Site::new(policy, self.index, Some(&self.site()));
        self.site.replace(Rc::new(next))
    }
}

/// Accepts until the drain, then stays until the last connection has ended.
async fn run(worker: Rc<Worker>, ends: Ends, mut instructions: UnboundedReceiver<Instruction>) -> io::Result<()> {
    if let CuttingThrough::Running(_) = &worker.shared.cut_through {
        // Ends with the runtime: whom it waits for is counted as live.
        tokio::task::spawn_local(carried::accompany(worker.clone(), ends));
    }
    let mut doors = Doors::default();
    loop {
        // Every branch may be dropped: a queue, a set and a value.
        tokio::select! {
            Some(instruction) = instructions.recv() => match instruction {
                Instruction::Change(change) => doors.change(&worker, change),
                Instruction::GoOn(successor) => go_on(&worker, successor),
            },
            Some(_) = doors.accepting.join_next() => {}
            () = worker.shared.drain.draining() => break,
            () = worker.shared.hand_over.begun() => break,
        }
    }
    while doors.accepting.join_next().await.is_some() {}
    worker.live.none_left().await;
    Ok(())
}

/// Serves what a former process has handed over.
fn go_on(worker: &Rc<Worker>, successor: Successor) {
    let worker = Rc::clone(worker);
    match successor {
        Successor::Relayed(connection, tenant, sockets) => {
            tokio::task::spawn_local(passthrough::go_on(worker, *connection, tenant, sockets));
        }
        Successor::Unread(connection, stream) => {
            tokio::task::spawn_local(async move {
                if let Err(error) = serve_of_another_process(&worker, connection, stream).await {
                    debug!(%error, "a connection of the former process");
                }
            });
        }
    }
}

async fn serve_of_another_process(
    worker: &Worker,
    connection: UnreadConnection,
    stream: std::net::TcpStream,
) -> io::Result<()> {
    // It was accepted by one that may not have seen to it.
    stream.set_nodelay(true)?;
    let stream = LazyStream::Unregistered(stream);
    let name: Rc<str> = connection.listener.as_str().into();
    let Some(listening) = Listening::at(worker.site(), Rc::clone(&name)) else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "its listener is gone"));
    };
    let held = worker.hold(Some(&name), connection.is_source_admitted.then_some(connection.client.ip()));
    let arrival = Arrival {
        id: connection.id,
        listener: name,
        peer: connection.peer,
        client: connection.client,
        told_local: connection.told_local,
        is_header_taken: connection.is_header_taken,
        is_source_admitted: connection.is_source_admitted,
        accepted: instant_of(connection.accepted_monotonic_ns).into(),
        accepted_at: connection.accepted_at,
        deadline: instant_of(connection.deadline_monotonic_ns).into(),
    };
    serve_unread(worker, listening, Unread { stream, arrival, held }).await;
    Ok(())
}

/// The accepting tasks of a worker.
#[derive(Debug, Default)]
struct Doors {
    accepting: JoinSet<()>,
    /// By the listener's name: its address, and what closes its doors when it is dropped.
    open: HashMap<String, (SocketAddr, Vec<oneshot::Sender<()>>)>,
}

impl Doors {
    /// Accepts from `socket`, beside others of the same listener.
    fn open(&mut self, worker: &Rc<Worker>, name: &str, socket: TcpListener) -> io::Result<()> {
        listen(&socket)?;
        let socket = register(socket.into(), Interest::READABLE)?;
        let Some(listening) = Listening::at(worker.site(), name.into()) else { return Ok(()) };
        let (open, closed) = oneshot::channel();
        let (_, doors) = self.open.entry(name.to_owned()).or_insert((listening.settings().address, Vec::new()));
        doors.push(open);
        self.accepting.spawn_local(accept::accept_loop(worker.clone(), listening, socket, closed));
        Ok(())
    }

    fn change(&mut self, worker: &Rc<Worker>, change: Change) {
        let Change { policy, sockets, applied } = change;
        let _former = worker.move_to(policy);
        self.close_all_but(&worker.site());
        for (name, socket) in sockets {
            if let Err(error) = self.open(worker, &name, socket) {
                error!(listener = name, %error, "a new listener does not accept");
            }
        }
        // Whoever asked may have gone.
        let _ = applied.send(());
    }

    /// Closes those whose listener is gone or has another address.
    fn close_all_but(&mut self, site: &Site) {
        let listeners = &site.policy.config.listeners;
        self.open.retain(|name, (address, _)| {
            listeners.iter().any(|listener| listener.name == *name && listener.address == *address)
        });
    }
}
