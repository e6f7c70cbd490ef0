//! From the command line to a serving process, in the order that privileges dictate: what needs root first, then the
//! drop, and only then keys and clients.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{AccessLogPath, Config, LoadError, Mode, Part, Startup, Terminate};
use connection::backends::ConnectProbe;
use connection::files::folders_with_content;
use connection::{AccessLogFile, Backends, Limits, descriptors};
use nix::unistd::geteuid;
use thiserror::Error;
use tracing::{debug, warn};

use crate::confinement::{Confinement, Needs, enter_memory_group, forbid_new_privileges, raise_locked_memory_limit};
use crate::generated::make_folder;
use crate::identity::{Identity, Start};
use crate::live_tls::LiveTls;
use crate::reload::{self, Keeper, Place, Sources, files_of};
use crate::serving::{Tenant, cores, serve};
use crate::tenant_names::TenantNames;
use crate::tls_config::TlsConfigError;

/// What `serve` is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The configuration file.
    pub config: PathBuf,
    /// Whose terminator this is.
    pub tenant: String,
    /// Where the router hands connections over.
    pub socket: PathBuf,
    /// The cgroup in which its memory is limited, where there can be one.
    pub memory_group: Option<PathBuf>,
    /// Whether standard input is the supervisor's lifeline.
    pub supervised: bool,
    /// The part of the file that has to be read, where the supervisor says.
    pub part: Option<Part>,
    /// What to try from inside the confinement, instead of serving.
    #[cfg(debug_assertions)]
    pub attempts: Vec<String>,
}

/// Why the process ends without having served; decides the exit code.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// Exit code 1.
    #[error("{0}")]
    Input(String),
    /// Exit code 2.
    #[error("{0}")]
    System(String),
}

/// Runs the terminator of one tenant to its end.
pub(crate) fn run(request: &Request) -> Result<(), StartError> {
    let span = tracing::info_span!("terminator", tenant = request.tenant);
    let _entered = span.enter();

    // As whoever started the process, without looking at anything that belongs to the tenant.
    forbid_new_privileges().map_err(system)?;
    let config = load(request).map_err(input)?;
    debug!(tenants = config.tenants.len(), "configuration read");
    let (index, terminate) = find(&config, &request.tenant)?;
    let start = Start { own_uid: geteuid().as_raw(), supervised: request.supervised };
    let router_uid = start.router_uid(config.user.as_ref()).map_err(input)?;
    let access_log = config.access_log.as_ref().map(open_access_log).transpose()?;
    if let Err(error) = descriptors::raise_limit() {
        warn!(%error, "the soft limit of open files stays as it is");
    }
    if let Err(error) = descriptors::make_room(DESCRIPTORS) {
        debug!(%error, "make room for descriptors");
    }
    raise_locked_memory_limit();
    let (memory_max, group) = (terminate.sandbox.memory_max, request.memory_group.as_deref());
    let memory_limit = memory_max.map(|bytes| enter_memory_group(group, bytes));

    let tenant = &config.tenants[index];
    let place = place(&config, &tenant.name, terminate);
    let target = match &request.part {
        Some(Part { identity: config::Identity { uid, gid }, .. }) => Identity { uid: *uid, gid: *gid },
        None => identity(&config, &request.tenant)?,
    };
    if let Some(place) = &place {
        make_folders(place, start.own_uid == 0, target)?;
    }

    // As the tenant, and with its own files and backends alone.
    let policy = terminate.sandbox.policy.unwrap_or(config.sandbox_policy);
    let mut confinement = Confinement::begin(target, policy, !request.supervised).map_err(system)?;
    if let Some(outcome) = memory_limit {
        confinement.memory_limit(outcome);
    }
    confinement.restrict_access(&needs(tenant, terminate, place.as_ref(), &request.socket));
    let access_log = access_log
        .map(AccessLogFile::start)
        .transpose()
        .map_err(|error| StartError::System(format!("start the access log's thread: {error}")))?;

    // From here on there are keys in memory.
    let unusable = |error| match &error {
        TlsConfigError::Certificate(_) | TlsConfigError::Generated(_) => input(error),
        TlsConfigError::Provider(_) => system(error),
    };
    let (sources, events) = Sources::load(terminate, &tenant.hostnames, place.as_ref()).map_err(unusable)?;
    events.iter().for_each(reload::report);
    // They hold the first certificates, whose keys are to go when they are replaced.
    drop(events);
    let tls = Arc::new(LiveTls::new(sources.tls().map_err(unusable)?));
    let keeper = Keeper::new(sources, Arc::clone(&tls));
    #[cfg(debug_assertions)]
    if !request.attempts.is_empty() {
        confinement.seal().map_err(system)?;
        crate::confinement::attempts::attempt_all(&request.attempts);
        return Ok(());
    }
    let tenant = Tenant {
        name: tenant.name.clone(),
        names: TenantNames::new(&config, index),
        tls,
        backends: Arc::new(Backends::of(tenant)),
        probe: ConnectProbe::of(tenant),
        limits: Arc::new(Limits::new(tenant.limits.max_connections, tenant.limits.handshake_rate)),
        connect_timeout: tenant.connect_timeout,
        proxy_protocol: tenant.proxy_protocol.clone(),
        idle_timeout: tenant.idle_timeout,
        drain_timeout: tenant.drain_timeout,
        tcp: tenant.tcp,
        idle_stop: match terminate.startup {
            Startup::OnDemand { idle_stop } if request.supervised => Some(idle_stop),
            Startup::OnDemand { .. } | Startup::Always => None,
        },
        router_uid,
        access_log,
    };
    let workers = config.workers.unwrap_or_else(cores);
    // The whole configuration, with all tenants' names, is not needed any more.
    drop(config);
    serve(tenant, keeper, confinement, &request.socket, workers, request.supervised).map_err(system)
}

/// The whole file, or as much of it as makes no difference.
fn load(request: &Request) -> Result<Config, LoadError> {
    match &request.part {
        Some(Part { beside, .. }) => {
            let names = beside.iter().map(String::as_str).chain([request.tenant.as_str()]);
            Config::load_part(&request.config, &names.collect::<Vec<_>>())
        }
        None => Config::load(&request.config),
    }
}

pub(crate) fn find<'c>(config: &'c Config, name: &str) -> Result<(usize, &'c Terminate), StartError> {
    let found = config.tenants.iter().enumerate().find(|(_, tenant)| tenant.name == name);
    match found {
        Some((index, tenant)) => match &tenant.mode {
            Mode::Terminate(terminate) => Ok((index, terminate)),
            Mode::Passthrough => Err(StartError::Input(format!(
                "tenant {name} has mode Passthrough: its TLS stays end to end, and no terminator serves it"
            ))),
        },
        None => {
            let terminated = config.tenants.iter().filter(|tenant| matches!(tenant.mode, Mode::Terminate(_)));
            let names: Vec<&str> = terminated.map(|tenant| tenant.name.as_str()).collect();
            Err(StartError::Input(format!(
                "tenant {name} is not in the configuration; tenants of mode Terminate: {}",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            )))
        }
    }
}

pub(crate) fn identity(config: &Config, tenant: &str) -> Result<Identity, StartError> {
    let identity = config.tenant_uid(tenant).zip(config.tenant_gid(tenant));
    let (uid, gid) = identity.ok_or_else(|| StartError::Input(format!("tenant {tenant} has no uid")))?;
    Ok(Identity { uid, gid })
}

/// Before the drop, because log folders seldom belong to a tenant.
fn open_access_log(path: &AccessLogPath) -> Result<AccessLogFile, StartError> {
    let path = match path {
        AccessLogPath::Stdout => Path::new("-"),
        AccessLogPath::File(path) => path,
    };
    AccessLogFile::open(path)
        .map_err(|error| StartError::System(format!("open the access log {}: {error}", path.display())))
}

/// Where a tenant keeps what it generates; `None` where it generates nothing.
pub(crate) fn place(config: &Config, tenant: &str, terminate: &Terminate) -> Option<Place> {
    terminate.generate.then(|| Place {
        tenant: tenant.to_owned(),
        generated: config.generated_dir(tenant),
        advertised: config.advertised_dir(tenant).join("ca.crt"),
    })
}

/// As whoever started the process: the folders above belong to root, if that is who it was.
fn make_folders(place: &Place, is_root: bool, target: Identity) -> Result<(), StartError> {
    // Everybody may read the advertised CA, and nobody's mask shall decide otherwise.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let owner = is_root.then_some(target);
    let folders = [Some((place.generated.as_path(), 0o700)), place.advertised.parent().map(|folder| (folder, 0o755))];
    for (folder, mode) in folders.into_iter().flatten() {
        make_folder(folder, mode, owner)
            .map_err(|error| StartError::System(format!("make the folder {}: {error}", folder.display())))?;
    }
    Ok(())
}

/// What is left to a confined terminator. Folders, not files: a file that is replaced is another one to Landlock.
pub(crate) fn needs(tenant: &config::Tenant, terminate: &Terminate, place: Option<&Place>, socket: &Path) -> Needs {
    let own = place.map(|place| {
        let advertised = place.advertised.parent().map(Path::to_owned);
        std::iter::once(place.generated.clone()).chain(advertised)
    });
    let read: BTreeSet<PathBuf> = files_of(terminate).iter().flat_map(|file| folders_with_content(file)).collect();
    Needs {
        read: read.into_iter().collect(),
        write: own.into_iter().flatten().collect(),
        socket_folder: socket.parent().map(Path::to_owned).unwrap_or_default(),
        connect: tenant.backends.iter().map(|backend| backend.address.port()).collect(),
    }
}

pub(crate) fn input(error: impl std::fmt::Display) -> StartError {
    StartError::Input(error.to_string())
}

pub(crate) fn system(error: impl std::fmt::Display) -> StartError {
    StartError::System(error.to_string())
}

/// Two for each connection, of a tenant with many. 32 kB of the kernel's memory.
const DESCRIPTORS: u32 = 4_096;
