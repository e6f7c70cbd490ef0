//! The configuration file of a running process: tells when it has changed, whichever way it was replaced.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ::connection::files::{Fingerprint, Watch};
use tracing::warn;

/// A file and the state in which it was last read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    seen: Fingerprint,
    watch: Watch,
}

impl ConfigFile {
    /// The file at `path`, which was read after it had the fingerprint `seen`; `watch` is what the program that this process
    /// was before watched it with. Needs a tokio runtime with I/O.
    pub(crate) fn new(path: &Path, seen: Fingerprint, watch: Option<OwnedFd>) -> Self {
        let (watch, error) = watch.map_or_else(Watch::new, Watch::over);
        if let Some(error) = error {
            warn!(%error, "no inotify (fs.inotify.max_user_instances?): the configuration file is polled");
        }
        Self { path: path.to_owned(), seen, watch }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// For the program that this process becomes.
    pub(crate) fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.descriptor()
    }

    /// The file is about to be read, so that what it is now is no news any more.
    pub(crate) fn is_read(&mut self) {
        self.seen = fingerprint(&self.path);
    }

    /// Resolves when the file is another than at the last call, and nothing more has happened to it for a moment.
    /// Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        loop {
            // First the watch and the fingerprint: what changes in between is noticed again.
            self.watch.follow([&self.path].into_iter());
            let now = fingerprint(&self.path);
            if now != self.seen {
                self.seen = now;
                return;
            }
            self.watch.something_may_have_changed().await;
        }
    }
}

/// Of the file as it is now; taken before the file is read.
pub(crate) fn fingerprint(path: &Path) -> Fingerprint {
    Fingerprint::of([&path.to_owned()].into_iter())
}
