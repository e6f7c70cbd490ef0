//! The runtime folder: the lock of this instance, and one folder per terminator that only it and the router can enter.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use config::{Config, Mode};
use nix::unistd::{Gid, Uid, chown};
use rustix::fs::{FlockOperation, flock};

use crate::identity::Identity;

/// The lock of a prepared runtime folder, held for as long as the value lives.
#[derive(Debug)]
pub(super) struct RuntimeDir {
    _lock: File,
}

/// Why the runtime folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RuntimeDirError {
    #[error("runtimeDir: {operation} {}: {source}{}", path.display(), advice(source))]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("runtimeDir {}: another sni-router runs there; give this one its own runtimeDir", .0.display())]
    Locked(PathBuf),
}

impl RuntimeDir {
    /// Makes the folders that are missing and takes the lock.
    pub(super) fn prepare(config: &Config, router: Identity) -> Result<Self, RuntimeDirError> {
        let path = &config.runtime_dir;
        make_folder(path, 0o755)?;
        let lock = lock(path)?;
        make_folder(&path.join("terminators"), 0o755)?;
        for tenant in &config.tenants {
            if let Mode::Terminate(terminate) = &tenant.mode
                && let Some(folder) = config.handoff_socket(&tenant.name).parent()
            {
                make_folder(folder, 0o700)?;
                if Uid::effective().is_root() {
                    // The terminator makes its socket there; of all others only the router's group may pass.
                    give_away(folder, Uid::from_raw(terminate.identity.uid), router.gid, 0o710)?;
                }
            }
        }
        Ok(Self { _lock: lock })
    }
}

fn lock(runtime_dir: &Path) -> Result<File, RuntimeDirError> {
    let path = runtime_dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RuntimeDirError::Locked(runtime_dir.into())),
        Err(error) => Err(io_error("lock", &path)(error.into())),
    }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), RuntimeDirError> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(io_error("create", path))
}

fn give_away(path: &Path, uid: Uid, gid: Gid, mode: u32) -> Result<(), RuntimeDirError> {
    chown(path, Some(uid), Some(gid)).map_err(|error| io_error("chown", path)(error.into()))?;
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io_error("chmod", path))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RuntimeDirError {
    move |source| RuntimeDirError::Io { operation, path: path.into(), source }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (start as root, or set runtimeDir to a folder of yours)",
        _ => "",
    }
}
