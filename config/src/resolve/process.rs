//! The fields of the file that concern the processes as such and no single tenant or listener.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::context::{Context, or_default};
use crate::field::Field;
use crate::file::{ConfigFile, DataPathFile, MAX_WORKERS, ModeFile, RUNTIME_DIR, SandboxPolicyFile, UserFile};
use crate::model::{AccessLogPath, DataPath, SandboxPolicy, User, handoff_socket};
use crate::probed::prober_socket;
use crate::text::Text;

/// The folder of the sockets; every tenant's socket fits a Unix address.
pub(super) fn runtime_dir(context: &Context<'_>, file: &ConfigFile) -> Option<PathBuf> {
    let field = &file.runtime_dir;
    let folder = if field.is_missing() { Path::new(RUNTIME_DIR) } else { &field.value()?.0.0 };
    let tenants = file.tenants.value().map(Vec::as_slice).unwrap_or_default();
    let tenants = || tenants.iter().filter_map(Field::value);
    let terminated = tenants().filter(|tenant| matches!(tenant.mode.value(), Some(ModeFile::Terminate)));
    let longest = terminated.filter_map(|tenant| tenant.name.value()).max_by_key(|name| name.0.0.len());
    let handoff = longest.map(|Text(name)| handoff_socket(folder, &name.0));
    let prober = tenants().any(|tenant| !tenant.certificate_probe.is_missing()).then(|| prober_socket(folder));
    if let Some(socket) = handoff.into_iter().chain(prober).max_by_key(|socket| socket.as_os_str().len()) {
        let bytes = socket.as_os_str().as_bytes().len();
        if bytes > MAX_SOCKET_PATH_BYTES {
            let socket = socket.display();
            let message = format!(
                "is too long: a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes, and `{socket}` has {bytes}"
            );
            context.error(field, "runtimeDir", message);
        }
    }
    Some(folder.to_owned())
}

/// `None` where the file says nothing.
pub(super) fn state_dir(file: &ConfigFile) -> Option<Option<PathBuf>> {
    if file.state_dir.is_missing() {
        return Some(None);
    }
    Some(Some(file.state_dir.value()?.0.0.clone()))
}

pub(super) fn workers(context: &Context<'_>, file: &ConfigFile) -> Option<Option<NonZeroUsize>> {
    if file.workers.is_missing() {
        return Some(None);
    }
    let workers = context.number(&file.workers, "workers", 1, 1..=MAX_WORKERS)?;
    Some(NonZeroUsize::new(usize::try_from(workers).ok()?))
}

pub(super) fn user(file: &ConfigFile) -> Option<Option<User>> {
    if file.user.is_missing() {
        return Some(None);
    }
    Some(Some(match file.user.value()? {
        UserFile::Name(name) => User::Name(name.clone()),
        UserFile::Id(uid) => User::Id(*uid),
    }))
}

pub(super) fn data_path(file: &ConfigFile) -> Option<DataPath> {
    match or_default(&file.data_path, &DataPathFile::Auto)? {
        DataPathFile::Auto => Some(DataPath::Auto),
        DataPathFile::Splice => Some(DataPath::Splice),
        DataPathFile::Copy => Some(DataPath::Copy),
        DataPathFile::CutThrough => Some(DataPath::CutThrough),
    }
}

/// The policy of the whole file.
pub(super) fn sandbox(context: &Context<'_>, file: &ConfigFile) -> Option<SandboxPolicy> {
    let policy = context.group(&file.sandbox, "sandbox", None, |_, sandbox| sandbox_policy(&sandbox.policy));
    Some(policy?.unwrap_or_default())
}

/// A policy of the whole file or of one tenant, where it says one.
pub(super) fn sandbox_policy(field: &Field<SandboxPolicyFile>) -> Option<Option<SandboxPolicy>> {
    if field.is_missing() {
        return Some(None);
    }
    Some(Some(match field.value()? {
        SandboxPolicyFile::BestEffort => SandboxPolicy::BestEffort,
        SandboxPolicyFile::Required => SandboxPolicy::Required,
    }))
}

pub(super) fn admin(context: &Context<'_>, file: &ConfigFile) -> Option<Option<SocketAddr>> {
    context.group(&file.admin, "admin", None, |context, admin| {
        let Text(address) = context.required(&admin.address, "address")?;
        Some(Some(address.0))
    })
}

pub(super) fn access_log(context: &Context<'_>, file: &ConfigFile) -> Option<Option<AccessLogPath>> {
    context.group(&file.access_log, "accessLog", None, |context, access_log| {
        let path = context.required(&access_log.path, "path");
        if !access_log.format.is_missing() {
            access_log.format.value()?;
        }
        let Text(path) = path?;
        Some(Some(if path.0 == Path::new("-") { AccessLogPath::Stdout } else { AccessLogPath::File(path.0.clone()) }))
    })
}

/// unix(7): `sun_path` has 108 bytes, the last of which is NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;
