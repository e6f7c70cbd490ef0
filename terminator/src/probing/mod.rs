//! `sni-terminator probe`: looks at the certificates of Passthrough tenants' backends and tells the router when they end.
//! One process for all of these tenants, because there is nothing in it to steal: no key, no file, no byte of a client.

mod board;
mod channel;
mod handshake;
mod name;
mod schedule;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, Tenant};
use connection::backends::ConnectProbe;
use connection::handoff::{HandoffListener, HandoffSender, ProberStatus};
use connection::lifeline::supervisor_gone;
use connection::{Backends, descriptors};
use nix::unistd::geteuid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use self::board::Board;
use self::channel::Peers;
use self::handshake::Handshaker;
use crate::confinement::{Confinement, Needs, forbid_new_privileges};
use crate::identity::{Identity, Start};
use crate::start::{StartError, input, system};

/// One tenant whose backends are looked at.
#[derive(Debug)]
struct Probed {
    settings: Arc<Tenant>,
    backends: Backends,
    /// What a backend gets ahead of the handshake.
    header: ConnectProbe,
    /// The longest time between two looks.
    every: Duration,
}

/// Probes until it is told to end.
pub(crate) fn probe(config: &Path, supervised: bool) -> Result<(), StartError> {
    let span = tracing::info_span!("prober");
    let _entered = span.enter();

    // As whoever started the process.
    forbid_new_privileges().map_err(system)?;
    let config = Config::load(config).map_err(input)?;
    let probed: Vec<Rc<Probed>> = config.tenants.iter().filter_map(Probed::of).map(Rc::new).collect();
    if probed.is_empty() {
        return Err(StartError::Input("no tenant has a certificateProbe: there is nothing to look at".to_owned()));
    }
    let start = Start { own_uid: geteuid().as_raw(), supervised };
    let router_uid = start.router_uid(config.user.as_ref()).map_err(input)?;
    let target = config.prober_identity().ok_or_else(|| StartError::Input("uidRange has no uid left".to_owned()))?;
    if let Err(error) = descriptors::raise_limit() {
        warn!(%error, "the soft limit of open files stays as it is");
    }
    let socket = config.prober_socket();
    let policy = config.sandbox_policy;
    drop(config);

    // From here on with nothing but the backends' ports.
    let target = Identity { uid: target.uid, gid: target.gid };
    let mut confinement = Confinement::begin_without_keys(target, policy, !supervised).map_err(system)?;
    confinement.restrict_access(&needs(&probed, &socket));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    LocalSet::new().block_on(&runtime, run(probed, confinement, &socket, router_uid, supervised))
}

impl Probed {
    fn of(tenant: &Arc<Tenant>) -> Option<Self> {
        Some(Self {
            settings: Arc::clone(tenant),
            backends: Backends::of(tenant),
            header: ConnectProbe::of(tenant),
            every: tenant.certificate_probe?,
        })
    }
}

fn needs(probed: &[Rc<Probed>], socket: &Path) -> Needs {
    let targets = probed.iter().flat_map(|tenant| &tenant.settings.backends);
    Needs {
        read: Vec::new(),
        write: Vec::new(),
        socket_folder: socket.parent().map(Path::to_owned).unwrap_or_default(),
        connect: targets.map(|target| target.address.port()).collect(),
    }
}

async fn run(
    probed: Vec<Rc<Probed>>,
    confinement: Confinement,
    socket: &Path,
    router_uid: u32,
    supervised: bool,
) -> Result<(), StartError> {
    let end = end(supervised).map_err(|error| StartError::System(format!("handle signals: {error}")))?;
    // Ahead of seccomp, after which no Unix socket is made any more.
    let known = ask_the_former(socket).await;
    let listener = match supervised {
        true => HandoffListener::succeed(socket, SOCKET_MODE),
        false => HandoffListener::bind(socket, SOCKET_MODE),
    };
    let listener = listener.map_err(|error| StartError::System(format!("bind {}: {error}", socket.display())))?;
    let handshaker = Handshaker::new().map_err(system)?;
    let sandbox = confinement.seal().map_err(system)?;
    info!(socket = %socket.display(), tenants = probed.len(), known = known.backends.len(), router_uid, "probing");

    let names: HashSet<&str> = probed.iter().map(|tenant| tenant.settings.name.as_str()).collect();
    let board = Rc::new(Board::new(sandbox, known.backends, |name| names.contains(name)));
    let (turns, handshaker) = (Rc::new(Semaphore::new(PROBES_AT_ONCE)), Rc::new(handshaker));
    for tenant in &probed {
        let (board, turns, handshaker) = (Rc::clone(&board), Rc::clone(&turns), Rc::clone(&handshaker));
        spawn_local(schedule::keep_probing(Rc::clone(tenant), board, turns, handshaker));
    }
    let watched = Rc::clone(&board);
    spawn_local(async move {
        loop {
            sleep(CLOCK_INTERVAL).await;
            watched.warn_of_ends();
        }
    });
    let peers = Peers { router: router_uid, own: geteuid().as_raw() };
    // Dropping the accepting ends nothing that would have to be finished.
    let reason = tokio::select! {
        reason = end => reason,
        error = channel::accept_all(listener, peers, probed, board) => {
            return Err(StartError::System(format!("accept a router: {error}")));
        }
    };
    info!(reason, "stopped");
    Ok(())
}

/// What a prober knows that runs already: this one is to take its place, and need not ask all backends at once.
async fn ask_the_former(socket: &Path) -> ProberStatus {
    let Ok(sender) = HandoffSender::connect(socket) else { return ProberStatus::default() };
    match timeout(FORMER_PATIENCE, sender.probed()).await {
        Ok(Ok(status)) => status,
        // It is ending, or of another version.
        _ => ProberStatus::default(),
    }
}

/// Resolves with the reason to end. Handlers are there when this returns.
fn end(supervised: bool) -> io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut retire = signal(SignalKind::user_defined1())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Nothing is read again: whoever wants another configuration starts another prober.
    let hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        let _ignored = hang_up;
        // Every branch may be dropped: the process ends.
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = retire.recv() => "SIGUSR1",
            _ = interrupt.recv(), if !supervised => "SIGINT",
            () = supervisor_gone(), if supervised => "the supervisor is gone",
        }
    })
}

/// Each has one descriptor and some tens of KiB for up to ten seconds.
const PROBES_AT_ONCE: usize = 64;

/// Warnings are about days; for certificates that live for hours they are still in time.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// It answers within milliseconds; without its answer all backends are asked at once.
const FORMER_PATIENCE: Duration = Duration::from_secs(1);

/// As for terminators: the folder decides who gets here, SO_PEERCRED decides again.
const SOCKET_MODE: u32 = 0o666;
