//! Folders of one test run: short paths (a Unix socket's path has at most 107 bytes, unix(7)), removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

/// A folder of its own that every uid may traverse, because terminators run under other uids than the test.
pub struct Scratch(TempDir);

impl Scratch {
    /// A new folder in memory, as a runtimeDir in /run is: on a disk that is busy a process waits for seconds that truncates
    /// a file. Below the system's folder for temporary files where there is no such place.
    pub fn new() -> Result<Self> {
        let folder = in_memory()
            .or_else(|_| tempfile::Builder::new().prefix(PREFIX).tempdir())
            .context("make a scratch folder")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .with_context(|| format!("open {} to other uids", folder.path().display()))?;
        Ok(Self(folder))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path inside it; nothing is made.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that everybody may read.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
            .with_context(|| format!("open {} to other uids", path.display()))?;
        Ok(path)
    }
}

/// Programs are started from it, too.
fn in_memory() -> io::Result<TempDir> {
    if statvfs(MEMORY)?.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    tempfile::Builder::new().prefix(PREFIX).tempdir_in(MEMORY)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A router that loaded eBPF programs may have mounted a bpffs in its runtimeDir, which would keep the folder from being
        // removed.
        for folder in fs::read_dir(self.path()).into_iter().flatten().flatten() {
            let _ = unmount(folder.path().join("bpf"), UnmountFlags::DETACH);
        }
    }
}

const PREFIX: &str = "snir-";
/// See shm_overview(7).
const MEMORY: &str = "/dev/shm";
