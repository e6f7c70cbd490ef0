//! The runtime folder: the lock of this instance, the configuration that is in force, and one folder per terminator that
//! only it and the router can enter.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use config::{Config, Mode};
use nix::unistd::{Gid, Uid, chown};
use rustix::fs::{FlockOperation, flock};

use crate::demand::demand_socket;
use crate::identity::Identity;

/// The lock of a prepared runtime folder, held for as long as the value lives.
#[derive(Debug)]
pub(super) struct RuntimeDir {
    path: PathBuf,
    router: Identity,
    lock: File,
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
        let this = Self { path: path.clone(), router, lock };
        this.add_tenants(config)?;
        Ok(this)
    }

    /// One that this process has prepared before it became this program.
    pub(super) fn inherit(config: &Config, router: Identity, lock: File) -> Self {
        Self { path: config.runtime_dir.clone(), router, lock }
    }

    /// What keeps other instances out.
    pub(super) fn lock(&self) -> &File {
        &self.lock
    }

    /// Makes the folders of the tenants that have none yet, and that of the prober. Of all others only the router's group may
    /// pass.
    pub(super) fn add_tenants(&self, config: &Config) -> Result<(), RuntimeDirError> {
        self.add_folders(config, 0o710)
    }

    /// The router will be `next`: the folders let it in, and until [`add_tenants`](Self::add_tenants) everybody, because the
    /// former one still comes. Who may hand over there, terminators decide by the uid of the peer.
    pub(super) fn change_router(&mut self, next: Identity, config: &Config) -> Result<(), RuntimeDirError> {
        if self.router == next {
            return Ok(());
        }
        self.router = next;
        self.add_folders(config, 0o711)?;
        for (path, mode) in [(self.config(), 0o640), (demand_socket(&self.path), 0o600)] {
            let owner = if mode == 0o600 { next.uid } else { Uid::effective() };
            give_away(&path, owner, next.gid, mode)?;
        }
        Ok(())
    }

    fn add_folders(&self, config: &Config, mode: u32) -> Result<(), RuntimeDirError> {
        if config.probed().next().is_some()
            && let (Some(folder), Some(identity)) = (config.prober_socket().parent(), config.prober_identity())
        {
            self.add_folder(folder, identity.uid, mode)?;
        }
        for tenant in &config.tenants {
            if let Mode::Terminate(terminate) = &tenant.mode
                && let Some(folder) = config.handoff_socket(&tenant.name).parent()
            {
                self.add_folder(folder, terminate.identity.uid, mode)?;
            }
        }
        Ok(())
    }

    /// Where `uid` makes its socket.
    fn add_folder(&self, folder: &Path, uid: u32, mode: u32) -> Result<(), RuntimeDirError> {
        make_folder(folder, 0o700)?;
        if Uid::effective().is_root() {
            give_away(folder, Uid::from_raw(uid), self.router.gid, mode)?;
        }
        Ok(())
    }

    /// The configuration that the children are started with: what was last found to be right, whatever has become of
    /// the file since.
    pub(super) fn config(&self) -> PathBuf {
        self.path.join("config.yaml")
    }

    /// Puts a configuration beside the one in force, where the router can read it after it has dropped its privileges.
    pub(super) fn propose_config(&self, text: &str) -> Result<(), RuntimeDirError> {
        let path = next_config(&self.path);
        let write = || {
            let options = OpenOptions::new().create(true).truncate(true).write(true).mode(0o640).open(&path);
            options.and_then(|mut file| file.write_all(text.as_bytes()))
        };
        write().map_err(io_error("write", &path))?;
        if Uid::effective().is_root() {
            give_away(&path, Uid::effective(), self.router.gid, 0o640)?;
        }
        Ok(())
    }

    /// Where that is.
    pub(super) fn next_config(&self) -> PathBuf {
        next_config(&self.path)
    }

    /// The proposed configuration is in force from now on.
    pub(super) fn adopt_config(&self) -> Result<(), RuntimeDirError> {
        let path = self.config();
        std::fs::rename(next_config(&self.path), &path).map_err(io_error("replace", &path))
    }
}

/// Where a configuration is proposed, in a runtime folder.
pub(crate) fn next_config(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("config.next.yaml")
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
