//! Where the demo's files live: target/demo, unless a tenant's process could not reach its secret or its socket there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};

use anyhow::{Context, Result};

use crate::binaries::target_folder;
use crate::scratch::Scratch;

/// The folders of one demo.
pub(super) struct Folder {
    files: PathBuf,
    runtime: PathBuf,
    notes: Vec<String>,
    _temporary: Vec<Scratch>,
}

impl Folder {
    /// Takes the wanted one or target/demo; a note says why when it is another.
    pub(super) fn choose(wanted: Option<&Path>) -> Result<Self> {
        let mut notes = Vec::new();
        let mut temporary = Vec::new();
        let mut files = match wanted {
            Some(folder) => path::absolute(folder).with_context(|| format!("folder {}", folder.display()))?,
            None => target_folder()?.join("demo"),
        };
        fs::create_dir_all(&files).with_context(|| format!("make {}", files.display()))?;
        let closed = files.ancestors().find(|ancestor| !traversable_by_others(ancestor));
        if let (true, Some(closed)) = (nix::unistd::geteuid().is_root(), closed) {
            notes.push(format!("files are not in {}: other uids may not enter {}", files.display(), closed.display()));
            files = temporary_folder(&mut temporary)?;
        }
        let mut runtime = files.join("run");
        if runtime.as_os_str().len() + LONGEST_SOCKET_NAME.len() > MAX_SOCKET_PATH {
            notes.push(format!("sockets are not in {}: a path has at most {MAX_SOCKET_PATH} bytes", files.display()));
            runtime = temporary_folder(&mut temporary)?;
        }
        Ok(Self { files, runtime, notes, _temporary: temporary })
    }

    /// For certificates, configuration and log.
    pub(super) fn files(&self) -> &Path {
        &self.files
    }

    /// The router's runtimeDir.
    pub(super) fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// What is not where one expects it.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }
}

fn temporary_folder(kept: &mut Vec<Scratch>) -> Result<PathBuf> {
    let scratch = Scratch::new()?;
    let path = scratch.path().to_path_buf();
    kept.push(scratch);
    Ok(path)
}

fn traversable_by_others(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
}

/// Below the runtimeDir.
const LONGEST_SOCKET_NAME: &str = "/terminators/acme/handoff.sock";
/// unix(7): `sun_path` has 108 bytes, one for the terminating NUL.
const MAX_SOCKET_PATH: usize = 107;
