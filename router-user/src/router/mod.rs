//! The router: binds, drops privileges, then accepts, peeks, routes and hands over. One file per step of a connection.

mod accept;
mod access;
mod connection;
mod connection_id;
mod cut_through;
mod health;
mod listen;
mod live;
pub mod outcome;
mod passthrough;
pub mod peek;
mod privileges;
mod proxy_header;
mod reject;
mod rejection;
mod socket_options;
mod terminate;
mod terminator_link;
mod worker;

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;

use ::connection::lifeline::supervisor_gone;
use ::connection::{AccessLog, Backends, Drain, Limits};
use config::{AccessLogPath, Mode, Tenant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tracing::info;

use self::privileges::drop_privileges;
pub use self::worker::Shared;
use self::worker::permit_count;
use crate::admin::{self, AdminSockets, AdminState};
use crate::commands::load;
use crate::ebpf::steer::Steering;
use crate::failure::Failure;
use crate::identity::router_identity;
use crate::metrics::WorkerCounters;
use crate::routing::Routing;

/// Runs the router until it is drained.
pub fn run(config_file: &Path, supervised: bool) -> Result<(), Failure> {
    let config = load(config_file)?;
    let identity = router_identity(&config).map_err(|error| Failure::Input(error.to_string()))?;
    let workers = config.workers.or_else(|| available_parallelism().ok()).map_or(1, usize::from);

    // First, so that no signal finds sockets and steering in place and nobody who would drain them.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start the runtime"))?;
    let signals = runtime.block_on(async { Signals::new() }).map_err(system("watch for signals"))?;

    // All that may need root happens here, and nothing else.
    let sockets = config
        .listeners
        .iter()
        .map(|listener| listen::bind(listener, workers))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::System(error.to_string()))?;
    let admin_sockets = AdminSockets::bind(&config).map_err(|error| Failure::System(error.to_string()))?;
    let access_log = config.access_log.as_ref().map(open_access_log).transpose()?;
    let loaded = cut_through::load(&config);
    // Last, because it takes the connections from the process before.
    let steering = Steering::start(&config, &sockets);
    drop_privileges(identity, cut_through::capabilities(&loaded))
        .map_err(|error| Failure::System(error.to_string()))?;
    let counters: Vec<_> = (0..workers).map(|_| Arc::new(WorkerCounters::new(&config))).collect();
    let cut_through = cut_through::start(loaded, &config, &counters, access_log.clone());

    for (listener, sockets) in config.listeners.iter().zip(&sockets) {
        let address = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(listener.address);
        info!(listener = listener.name, %address, workers, "listening");
    }
    let drain = Drain::new();
    let shared = Arc::new(Shared {
        routing: Routing::new(&config),
        permits: config
            .listeners
            .iter()
            .map(|listener| Arc::new(Semaphore::new(permit_count(listener.max_connections) as usize)))
            .collect(),
        steering,
        cut_through,
        backends: config
            .tenants
            .iter()
            .map(|tenant| (tenant.mode == Mode::Passthrough).then(|| Arc::new(Backends::of(tenant))))
            .collect(),
        limits: config.tenants.iter().map(|tenant| Arc::new(limits(tenant))).collect(),
        access_log,
        drain: drain.signal(),
        ended: Semaphore::new(0),
        config,
    });
    let started = start(&shared, counters, sockets, admin_sockets).map_err(system("start the workers"))?;
    info!(tenants = shared.config.tenants.len(), "ready");
    runtime.block_on(wait_for_the_end(&shared, workers, drain, supervised, signals));
    for worker in started {
        match worker.join() {
            Ok(result) => result.map_err(system("run a worker"))?,
            Err(_panicked) => return Err(Failure::System("a worker panicked".to_owned())),
        }
    }
    info!("drained");
    Ok(())
}

type WorkerThread = std::thread::JoinHandle<io::Result<()>>;

/// Starts the worker threads, each with its socket of every listener, and the admin thread.
fn start(
    shared: &Arc<Shared>,
    counters: Vec<Arc<WorkerCounters>>,
    sockets: Vec<Vec<TcpListener>>,
    admin_sockets: AdminSockets,
) -> io::Result<Vec<WorkerThread>> {
    let mut sockets: Vec<_> = sockets.into_iter().map(Vec::into_iter).collect();
    let threads = counters
        .iter()
        .enumerate()
        .map(|(index, counters)| {
            let own = sockets.iter_mut().filter_map(Iterator::next).collect();
            worker::spawn(index, shared.clone(), counters.clone(), own)
        })
        .collect::<io::Result<Vec<_>>>()?;
    health::spawn(shared)?;
    admin::spawn(admin_sockets, AdminState::new(shared.clone(), counters))?;
    Ok(threads)
}

/// Waits for SIGTERM, SIGINT or the supervisor's end, starts the drain, and returns when it is over or forced.
async fn wait_for_the_end(shared: &Shared, workers: usize, drain: Drain, supervised: bool, mut signals: Signals) {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            () = supervisor_gone(), if supervised => break,
            _ = signals.hangup.recv() => info!("SIGHUP: reloading is not available yet"),
        }
    }
    shared.steering.end();
    drain.start();
    info!(connections = held(shared), "draining");
    tokio::select! {
        _ = shared.ended.acquire_many(workers) => {}
        _ = signals.terminate.recv() => drain.force(),
        _ = signals.interrupt.recv() => drain.force(),
    }
}

/// From their construction on, signals wait here instead of ending the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Connections that the router holds now.
fn held(shared: &Shared) -> usize {
    let listeners = shared.config.listeners.iter().zip(&shared.permits);
    listeners
        .map(|(listener, permits)| {
            (permit_count(listener.max_connections) as usize).saturating_sub(permits.available_permits())
        })
        .sum()
}

/// Connections of Terminate tenants are not the router's for long; their terminators count them.
fn limits(tenant: &Tenant) -> Limits {
    let most = tenant.limits.max_connections.filter(|_| tenant.mode == Mode::Passthrough);
    Limits::new(most, tenant.limits.connection_rate)
}

fn open_access_log(path: &AccessLogPath) -> Result<AccessLog, Failure> {
    let path = match path {
        AccessLogPath::Stdout => Path::new("-"),
        AccessLogPath::File(path) => path,
    };
    AccessLog::open(path).map_err(|error| Failure::System(format!("accessLog: open {}: {error}", path.display())))
}

fn system(operation: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::System(format!("{operation}: {error}"))
}
