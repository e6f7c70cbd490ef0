//! The router: gets its sockets, drops privileges, then accepts, peeks, routes and hands over. One file per step of a connection.

mod accept;
mod access;
mod carried;
mod connection;
mod connection_id;
mod cut_through;
mod hand_over;
mod health;
mod lazy_stream;
mod lifetime;
mod live;
pub mod outcome;
mod passthrough;
pub mod peek;
mod permits;
mod policy;
mod privileges;
mod proxy_header;
mod reject;
mod rejection;
mod reload;
mod site;
pub(crate) mod socket_options;
mod sources;
mod terminate;
mod terminator_link;
mod transparent;
mod worker;

use std::io;
use std::path::Path;
use std::sync::Arc;

use ::connection::{AccessLog, Drain, descriptors};
use config::{AccessLogPath, Config};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tracing::{debug, info, warn};

use self::hand_over::HandOver;
use self::lifetime::{Authority, Signals};
pub use self::policy::{LivePolicy, Policy, TenantState};
use self::privileges::drop_privileges;
use self::reload::Reloader;
pub use self::reload::{ReloadOutcome, Reloads};
use self::worker::Instruction;
pub use self::worker::Shared;
use crate::admin::{self, AdminSockets, AdminState};
use crate::config_file::{ConfigFile, fingerprint};
use crate::ebpf::steer::Steering;
use crate::failure::Failure;
use crate::identity::router_identity;
use crate::listening::{ListeningSockets, workers};
use crate::metrics::WorkerCounters;
use crate::names;
use crate::supervision::Answer;

/// Runs the router until it is drained.
pub fn run(config_file: &Path, supervised: bool) -> Result<(), Failure> {
    let seen = fingerprint(config_file);
    let text = Config::read_file(config_file).map_err(Failure::Config)?;
    let config = Config::of_file(config_file, &text).map_err(Failure::Config)?;
    let identity = router_identity(&config).map_err(|error| Failure::Input(error.to_string()))?;

    // First, so that no signal finds sockets and steering in place and nobody who would drain them.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start the runtime"))?;
    let (signals, authority) = runtime.block_on(async {
        // Only for whom it is needed: the kernel takes its time to close what watches files.
        let file = || ConfigFile::new(config_file, seen, None);
        (Signals::new(), Authority::of(file, supervised, &config.runtime_dir))
    });
    let signals = signals.map_err(system("watch for signals"))?;

    if let Err(error) = descriptors::raise_limit() {
        warn!(%error, "the soft limit of open files stays as it is");
    }
    if let Err(error) = descriptors::make_room(DESCRIPTORS) {
        debug!(%error, "make room for descriptors");
    }
    // All that may need root happens here, and nothing else.
    let (mut listening, is_aside) = match &authority {
        Authority::Supervisor { line, .. } => match runtime.block_on(line.wait_for_start()) {
            Some(started) => started,
            None => return Ok(()),
        },
        _ => (ListeningSockets::bind(&config).map_err(|error| Failure::System(error.to_string()))?, false),
    };
    let workers = workers(&config);
    let missing = |name| Failure::System(format!("listener {name}: the supervisor has no sockets for it"));
    let sockets = listening.in_order_of(&config).map_err(missing)?;
    let access_log = config.access_log.as_ref().map(open_access_log).transpose()?;
    let cut_through = cut_through::Started::load(&config);
    let is_supervised = matches!(authority, Authority::Supervisor { .. });
    // Neither takes anything from the process before yet.
    let admin_sockets = AdminSockets::beside(listening.admin, &config, is_supervised);
    let steering = Steering::prepare(&config, &sockets, workers);
    let keep = transparent::with_capability(cut_through.capabilities(), &config);
    drop_privileges(identity, keep).map_err(|error| Failure::System(error.to_string()))?;
    transparent::warn_without_capability(&config);
    let counters = (0..workers).map(|_| Arc::new(WorkerCounters::new())).collect();
    for (listener, sockets) in config.listeners.iter().zip(&sockets) {
        let address = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(listener.address);
        info!(listener = listener.name, %address, workers, "listening");
    }
    let tenants = config.tenants.len();
    let policy = Arc::new(LivePolicy::new(Policy::new(config, workers)));
    let drain = Drain::new();
    let shared = Arc::new(Shared {
        cut_through: cut_through.finish(Arc::clone(&policy), access_log.clone()),
        policy,
        reloads: Reloads::new(),
        steering,
        access_log,
        drain: drain.signal(),
        hand_over: HandOver::new(),
        is_supervised,
        ended: Semaphore::new(0),
    });
    let (started, changes) = start(&shared, counters, admin_sockets).map_err(system("start the workers"))?;
    info!(tenants, is_aside, "ready");
    let mut reloader = Reloader::new(Arc::clone(&shared), text, changes);
    let mut doors = Some(sockets);
    // Nothing fails any more.
    if !is_aside && let Some(sockets) = doors.take() {
        shared.steering.take_over();
        runtime.block_on(reloader.open(sockets));
    }
    if let Authority::Supervisor { line, .. } = &authority {
        runtime.block_on(line.answer(&Answer::Done));
    }
    runtime.block_on(lifetime::run(&shared, &mut reloader, doors, drain, authority, signals));
    for worker in started {
        match worker.join() {
            Ok(result) => result.map_err(system("run a worker"))?,
            Err(_panicked) => return Err(Failure::System("a worker panicked".to_owned())),
        }
    }
    info!("drained");
    Ok(())
}

/// Two for each relayed connection: what is beyond makes everybody wait for a moment. A megabyte of the kernel's memory.
const DESCRIPTORS: u32 = 1 << 17;

type WorkerThread = std::thread::JoinHandle<io::Result<()>>;

/// Starts the worker threads, the health checks and the admin thread. Also gives the way to tell each worker of a change;
/// its listening sockets are the first.
fn start(
    shared: &Arc<Shared>,
    counters: Vec<Arc<WorkerCounters>>,
    admin_sockets: AdminSockets,
) -> io::Result<(Vec<WorkerThread>, Vec<UnboundedSender<Instruction>>)> {
    let threads = counters.iter().enumerate().map(|(index, counters)| {
        let (tell, changes) = unbounded_channel();
        Ok((worker::spawn(index, shared.clone(), counters.clone(), changes)?, tell))
    });
    let (threads, changes) = threads.collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
    health::spawn(&shared.policy)?;
    names::spawn(&shared.policy)?;
    admin::spawn(admin_sockets, AdminState::new(shared.clone(), counters))?;
    Ok((threads, changes))
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
