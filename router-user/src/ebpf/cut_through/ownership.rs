//! One process at a time makes, accompanies and collects the flows of a runtime folder: the places of the table and the
//! ports are handed out by one list. The next process waits here and relays meanwhile.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::ebpf::Unavailable;

/// A lock on a file in the runtime folder; the kernel takes it from a process that is gone.
#[derive(Debug)]
pub(super) enum Ownership {
    /// Ours, until it is dropped.
    Held(Owned),
    /// Another process's.
    Awaited(File),
}

/// Keeps other processes out.
#[derive(Debug)]
pub(super) struct Owned {
    _lock: File,
}

impl Ownership {
    /// Needs the right to write to `runtime_dir`, which is made where it is missing.
    pub(super) fn of(runtime_dir: &Path) -> Result<Self, Unavailable> {
        let failed = |error| Unavailable::of_call("lock the flows", error);
        fs::create_dir_all(runtime_dir).map_err(failed)?;
        let path = runtime_dir.join(FILE);
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self::Held(Owned { _lock: file })),
            Err(TryLockError::WouldBlock) => Ok(Self::Awaited(file)),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Waits for the other process.
    pub(super) fn wait(self) -> std::io::Result<Owned> {
        match self {
            Self::Held(owned) => Ok(owned),
            Self::Awaited(file) => file.lock().map(|()| Owned { _lock: file }),
        }
    }
}

const FILE: &str = "cut-through.lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_waits_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Ownership::of(folder.path()).unwrap();
        assert!(matches!(first, Ownership::Held(_)));
        let next = Ownership::of(folder.path()).unwrap();
        assert!(matches!(next, Ownership::Awaited(_)));
        drop(first);
        next.wait().unwrap();
    }
}
