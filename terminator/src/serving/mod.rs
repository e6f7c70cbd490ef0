//! Serves one tenant: takes connections from the router's processes, and stops in an orderly way.
//! Reads no file and no configuration text; what it needs is in [`Tenant`].

mod backend;
mod handshake;
mod idle;
mod path;
mod proxy_header;
mod record;
mod router_link;
mod shutdown;
mod worker;

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use config::{ProxyProtocol, TcpSettings};
use connection::backends::{ConnectProbe, probe};
use connection::handoff::{HandoffListener, SandboxPart, TerminatorStatus};
use connection::{AccessLog, Backends, Drain, Limits};
use thiserror::Error;
use tracing::{error, info};

use crate::certificates::trust_status;
use crate::confinement::{Confinement, NotConfined};
use crate::counters::{WorkerCounters, status};
use crate::live_tls::LiveTls;
use crate::reload::Keeper;
use crate::tenant_names::TenantNames;
use backend::BackendProbe;
use worker::{Door, spawn};

/// All that serving needs to know.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// The tenant's name.
    pub name: String,
    /// What it answers to.
    pub names: TenantNames,
    /// What it answers with.
    pub tls: Arc<LiveTls>,
    /// Where its connections go.
    pub backends: Arc<Backends>,
    /// How their health is checked.
    pub probe: ConnectProbe,
    /// What it may use.
    pub limits: Arc<Limits>,
    /// Limit of the dial.
    pub connect_timeout: Duration,
    /// The PROXY header that the backends get.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// A connection without a byte either way for this long is ended.
    pub idle_timeout: Duration,
    /// How long established connections may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// For the sockets to clients and backends.
    pub tcp: TcpSettings,
    /// The process ends after so long without a connection, where somebody starts it again.
    pub idle_stop: Option<Duration>,
    /// The only uid whose hand-offs are accepted.
    pub router_uid: u32,
    /// Where connection lines go.
    pub access_log: Option<AccessLog>,
}

/// What cannot be had from the system.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// The hand-off socket.
    #[error("bind {path}: {source}")]
    Bind {
        /// The socket.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread, a runtime or a signal handler.
    #[error("{operation}: {source}")]
    Start {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The confinement is not what it must be.
    #[error(transparent)]
    NotConfined(#[from] NotConfined),
}

/// Serves until the drain is over.
pub(crate) fn serve(
    tenant: Tenant,
    keeper: Keeper,
    confinement: Confinement,
    socket: &Path,
    workers: NonZeroUsize,
    supervised: bool,
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ServeError::Start { operation: "start a runtime", source })?;
    runtime.block_on(run(tenant, keeper, confinement, socket, workers, supervised))
}

async fn run(
    tenant: Tenant,
    keeper: Keeper,
    confinement: Confinement,
    socket: &Path,
    workers: NonZeroUsize,
    supervised: bool,
) -> Result<(), ServeError> {
    let signals = shutdown::Signals::new(supervised)
        .map_err(|source| ServeError::Start { operation: "handle signals", source })?;
    // A supervisor starts a second terminator of a tenant only to replace the first.
    let listener = match supervised {
        true => HandoffListener::succeed(socket, SOCKET_MODE),
        false => HandoffListener::bind(socket, SOCKET_MODE),
    };
    let listener = listener.map_err(|source| ServeError::Bind { path: socket.display().to_string(), source })?;
    let drain_timeout = tenant.drain_timeout;
    let counters = (0..workers.get()).map(|_| WorkerCounters::new()).collect();
    let probes = Arc::new(WorkerCounters::new());
    let shared = Arc::new(Shared { tenant, counters, probes, sandbox: OnceLock::new() });
    let door = Door::new(listener);
    let drain = Drain::new();
    let threads = (0..workers.get())
        .map(|index| spawn(index, Arc::clone(&shared), drain.signal(), door.clone()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|source| ServeError::Start { operation: "start a worker", source })?;
    // All threads run, and none has seen a byte of a client: nobody needs a new thread or socket from here on.
    let sandbox = confinement.seal()?;
    shared.sandbox.get_or_init(|| sandbox);
    door.open();
    // The workers hold the listener from here on, and it closes with the last of them.
    drop(door);
    info!(socket = %socket.display(), workers, router_uid = shared.tenant.router_uid, "serving");
    let tenant = &shared.tenant;
    let (header, tls) = (tenant.probe.clone(), Arc::clone(&tenant.tls));
    let how = BackendProbe { header, tls, counters: Arc::clone(&shared.probes) };
    let probes = tokio::spawn(probe(Arc::clone(&tenant.backends), how));
    let reload = signals.reload_wanted();
    // Dropped at the end of the drain, the keeper leaves nothing half done: it replaces what is served in one step.
    tokio::select! {
        () = signals.until_drained(&drain, drain_timeout, &shared) => {}
        never = keeper.run(reload) => match never {},
    }
    probes.abort();
    for thread in threads {
        if thread.join().is_err() {
            error!("a worker panicked");
        }
    }
    info!("stopped");
    Ok(())
}

/// What all workers share and none changes.
#[derive(Debug)]
struct Shared {
    tenant: Tenant,
    counters: Vec<WorkerCounters>,
    /// What the health checks count, on a thread that is no worker.
    probes: Arc<WorkerCounters>,
    sandbox: OnceLock<Vec<SandboxPart>>,
}

impl Shared {
    fn status(&self) -> TerminatorStatus {
        let backends = self.tenant.backends.states();
        let tls = self.tenant.tls.current();
        let counters = self.counters.iter().chain([&*self.probes]);
        let mut status = status(&self.tenant.name, &tls.with_an_end(), &backends, counters);
        if tls.backend.is_none() {
            status.backend_handshakes.clear();
        }
        TerminatorStatus {
            sandbox: self.sandbox.get().cloned().unwrap_or_default(),
            trust: trust_status(&tls.trust),
            ca_bundle: tls.authorities.as_deref().unwrap_or_default().to_owned(),
            ..status
        }
    }

    /// Connections that have ended.
    fn ended(&self) -> u64 {
        self.counters.iter().map(WorkerCounters::ended).sum()
    }

    fn active(&self) -> u64 {
        self.counters.iter().map(WorkerCounters::active_now).sum()
    }
}

/// Worker threads where the configuration says nothing: one per core that this process may use.
pub(crate) fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The folder decides who gets here (the supervisor makes it for the router's group alone), SO_PEERCRED decides again.
/// Connecting takes write permission on the socket (unix(7)).
const SOCKET_MODE: u32 = 0o666;
