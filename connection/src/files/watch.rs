//! Tells that something may have changed about some files. Says nothing about what: whoever is told looks himself.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout_at};

use super::folders::folders_on_the_way;
use crate::seqpacket::register;

/// Watches the folders of some files with inotify(7), which names no right that a confined process would lack.
#[derive(Debug)]
pub struct Watch {
    /// `None` where the kernel gives no inotify instance: then there is only polling.
    inotify: Option<AsyncFd<OwnedFd>>,
    watched: HashSet<i32>,
}

impl Watch {
    /// Watches nothing yet. The error is why there is only polling.
    pub fn new() -> (Self, Option<io::Error>) {
        Self::of(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(io::Error::from))
    }

    /// The same, with what the program that this process was before has had. What only that watched may wake this one, too.
    pub fn over(inotify: OwnedFd) -> (Self, Option<io::Error>) {
        Self::of(Ok(inotify))
    }

    fn of(inotify: io::Result<OwnedFd>) -> (Self, Option<io::Error>) {
        let (inotify, error) = match inotify.and_then(|inotify| register(inotify, Interest::READABLE)) {
            Ok(inotify) => (Some(inotify), None),
            Err(error) => (None, Some(error)),
        };
        (Self { inotify, watched: HashSet::new() }, error)
    }

    /// For the program that this process becomes. On a busy host closing it takes seconds: the kernel waits for everybody who
    /// is about to tell of anything (fs/notify/group.c, fsnotify_destroy_group).
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(|inotify| inotify.get_ref().as_fd())
    }

    /// Watches what leads to these files now. A folder that this uid may not list is left to the polling.
    pub fn follow<'p>(&mut self, files: impl Iterator<Item = &'p PathBuf>) {
        let Some(inotify) = &self.inotify else { return };
        let folders: BTreeSet<PathBuf> = files.flat_map(|file| folders_on_the_way(file)).collect();
        let now: HashSet<i32> = folders
            .iter()
            .filter_map(|folder| inotify::add_watch(inotify.get_ref(), folder, WHAT_CHANGES).ok())
            .collect();
        for gone in self.watched.difference(&now) {
            // The kernel has removed the watches of folders that do not exist any more itself.
            let _ = inotify::remove_watch(inotify.get_ref(), *gone);
        }
        self.watched = now;
    }

    /// Resolves when something has changed, and then nothing for a moment; in any case after a while. Cancel-safe: what
    /// a cancelled call has taken from the kernel, the next look at the files sees.
    pub async fn something_may_have_changed(&self) {
        let Some(inotify) = &self.inotify else { return sleep(POLL_INTERVAL_ALONE).await };
        if timeout_at(Instant::now() + POLL_INTERVAL, drain_events(inotify)).await.is_err() {
            return;
        }
        let latest = Instant::now() + LONGEST_UNREST;
        while timeout_at(latest.min(Instant::now() + QUIET), drain_events(inotify)).await.is_ok() {
            if Instant::now() >= latest {
                return;
            }
        }
    }
}

/// Waits for events and forgets them. An error of read(2) is left to the polling.
async fn drain_events(inotify: &AsyncFd<OwnedFd>) {
    let mut taken = false;
    while !taken {
        let Ok(mut ready) = inotify.readable().await else { return std::future::pending().await };
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        loop {
            match rustix::io::read(inotify.get_ref(), &mut buffer) {
                Ok(_) => taken = true,
                Err(Errno::AGAIN) => break ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

/// What tells two states of a file apart without reading it; a file that is not there is a state too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(Vec<Option<[i64; 6]>>);

impl Fingerprint {
    /// Of these files, in this order.
    pub fn of<'p>(files: impl Iterator<Item = &'p PathBuf>) -> Self {
        Self(files.map(|file| state(file)).collect())
    }
}

fn state(file: &Path) -> Option<[i64; 6]> {
    let metadata = std::fs::metadata(file).ok()?;
    let [device, inode, size] = [metadata.dev(), metadata.ino(), metadata.size()].map(u64::cast_signed);
    // ctime changes with content, permissions and owner alike, and nobody can set it.
    Some([device, inode, size, metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()])
}

/// Everything but reading: our own reads must not wake us.
const WHAT_CHANGES: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// A certificate and its key are written one after the other, most often within a millisecond.
const QUIET: Duration = Duration::from_millis(30);
/// A folder in which something happens all the time must not keep a new certificate from being served.
const LONGEST_UNREST: Duration = Duration::from_millis(300);
/// For what inotify does not see, such as changes on the server of a network file system (inotify(7)).
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Without inotify this is all there is, and a new certificate is to be served within a second.
const POLL_INTERVAL_ALONE: Duration = Duration::from_millis(500);
/// Some hundred events; more are read in the next round.
const EVENT_BYTES: usize = 8192;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn each_way_of_replacing_a_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tls.crt");
        let other = dir.path().join("new");
        fs::write(&file, "1").unwrap();
        let (mut watch, error) = Watch::new();
        assert!(error.is_none(), "{error:?}");
        let ways: [&dyn Fn(); 4] = [
            &|| fs::write(&file, "2").unwrap(),
            &|| {
                fs::write(&other, "3").unwrap();
                fs::rename(&other, &file).unwrap();
            },
            &|| fs::remove_file(&file).unwrap(),
            &|| fs::write(&file, "4").unwrap(),
        ];
        for (number, way) in ways.iter().enumerate() {
            watch.follow([&file].into_iter());
            let before = Fingerprint::of([&file].into_iter());
            way();
            tokio::time::timeout(SOON, watch.something_may_have_changed()).await.unwrap_or_else(|_| panic!("{number}"));
            assert_ne!(before, Fingerprint::of([&file].into_iter()), "{number}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_replaced_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("secret");
        let file = folder.join("tls.crt");
        fs::create_dir(&folder).unwrap();
        let (mut watch, _) = Watch::new();
        watch.follow([&file].into_iter());
        fs::rename(&folder, dir.path().join("old")).unwrap();
        fs::create_dir(&folder).unwrap();
        tokio::time::timeout(SOON, watch.something_may_have_changed()).await.unwrap();
        watch.follow([&file].into_iter());
        let before = Fingerprint::of([&file].into_iter());
        fs::write(&file, "new").unwrap();
        // What happened to the old folder may be told first.
        let noticed = async {
            while before == Fingerprint::of([&file].into_iter()) {
                watch.something_may_have_changed().await;
            }
            watch.follow([&file].into_iter());
            fs::write(&file, "newer").unwrap();
            watch.something_may_have_changed().await;
        };
        tokio::time::timeout(SOON, noticed).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_watched_before_is_noticed_by_whoever_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tls.crt");
        fs::write(&file, "1").unwrap();
        let (mut former, _) = Watch::new();
        former.follow([&file].into_iter());
        fs::write(&file, "2").unwrap();
        let (watch, error) = Watch::over(former.descriptor().unwrap().try_clone_to_owned().unwrap());
        assert!(error.is_none(), "{error:?}");
        tokio::time::timeout(SOON, watch.something_may_have_changed()).await.unwrap();
    }

    #[tokio::test]
    async fn reading_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        // The folder above is watched too, and that of all temporary folders is everybody's.
        let file = dir.path().join("secret/tls.crt");
        fs::create_dir(dir.path().join("secret")).unwrap();
        fs::write(&file, "1").unwrap();
        let (mut watch, _) = Watch::new();
        watch.follow([&file].into_iter());
        fs::read(&file).unwrap();
        assert!(tokio::time::timeout(QUIET * 3, watch.something_may_have_changed()).await.is_err());
    }
}
