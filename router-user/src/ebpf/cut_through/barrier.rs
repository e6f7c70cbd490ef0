//! Waits until every packet that the kernel is processing now has reached its socket. It takes a packet through our programs
//! and its own TCP in one go, during which no thread gets that processor: so it is enough to have run once on each of them,
//! which takes as long as getting a turn there. Where that is not so, or not for us to do, membarrier(2) waits for a grace
//! period of RCU instead: milliseconds as a rule, seconds on a busy host.

use std::fs::{File, read_to_string};
use std::io;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tracing::debug;

use super::raw;

/// One thread's.
#[derive(Debug)]
pub(super) struct Barrier {
    /// Tells which processors there are; they come and go. `None`: they are not visited.
    online: Option<File>,
    /// Not before this.
    next: Instant,
}

impl Barrier {
    pub(super) fn new() -> Self {
        let open = || File::open(ONLINE).inspect_err(|error| debug!(%error, "cut-through: {ONLINE}")).ok();
        Self { online: may_visit().then(open).flatten(), next: Instant::now() }
    }

    /// Returns when that is so.
    ///
    /// # Errors
    /// Those of membarrier(2), where that was needed.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        sleep(self.next.saturating_duration_since(Instant::now()));
        match self.online.as_ref().map(visit_all) {
            Some(Ok(visited)) => {
                self.next = Instant::now() + PAUSE * visited;
                Ok(())
            }
            Some(Err(_)) | None => raw::wait_for_grace_period(),
        }
    }
}

/// Whether the kernel takes a packet through in one go, and nobody wants to be alone on a processor.
fn may_visit() -> bool {
    let is_one_go = read_to_string(VERSION).is_ok_and(|version| !version.contains("PREEMPT_RT"));
    let mut lists = ALONE.iter().filter_map(|file| read_to_string(file).ok());
    is_one_go && lists.all(|list| !list.contains(|c: char| c.is_ascii_digit()))
}

/// Gives how many there are. Fails where there is one that this thread may not run on.
fn visit_all(online: &File) -> io::Result<u32> {
    let mut buffer = [0; LONGEST_LIST];
    let length = online.read_at(&mut buffer, 0)?;
    let unknown = || io::Error::from(io::ErrorKind::InvalidData);
    let list = buffer.get(..length).and_then(|list| str::from_utf8(list).ok()).ok_or_else(unknown)?;
    let processors = processors(list).ok_or_else(unknown)?;
    let home = sched_getaffinity(None)?;
    let visited = processors.iter().try_for_each(|processor| visit(*processor));
    // Fails where a cpuset has changed just now, which has put us where we may be.
    let _ = sched_setaffinity(None, &home);
    visited.map(|()| processors.len() as u32)
}

/// Returns there.
fn visit(processor: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor);
    Ok(sched_setaffinity(None, &only)?)
}

/// Of a list as the kernel writes it: `0-3,8`.
fn processors(list: &str) -> Option<Vec<usize>> {
    let mut processors = Vec::new();
    for range in list.trim_end().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        processors.extend(first.parse::<usize>().ok()?..=last.parse().ok().filter(|last| *last < CpuSet::MAX_CPU)?);
    }
    Some(processors)
}

/// For each processor that was visited, so that many of them are not disturbed more often than few.
const PAUSE: Duration = Duration::from_millis(1);
/// A list of every other processor of [`CpuSet::MAX_CPU`] is shorter.
const LONGEST_LIST: usize = 4096;
/// Documentation/admin-guide/cputopology.rst.
const ONLINE: &str = "/sys/devices/system/cpu/online";
/// Processors that are kept free of everything that was not sent there (isolcpus=, nohz_full=).
const ALONE: [&str; 2] = ["/sys/devices/system/cpu/isolated", "/sys/devices/system/cpu/nohz_full"];
/// A kernel that preempts its work on packets says so there.
const VERSION: &str = "/proc/sys/kernel/version";

#[cfg(test)]
mod tests {
    use rustix::thread::sched_getcpu;

    use super::*;

    #[test]
    fn lists_of_processors() {
        assert_eq!(processors("0\n"), Some(vec![0]));
        assert_eq!(processors("0-1,4,6-7\n"), Some(vec![0, 1, 4, 6, 7]));
        for wrong in ["", "\n", "0-", "a", "0-1024", "-1", "(null)"] {
            assert_eq!(processors(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn visits_leave_the_thread_where_it_may_run() {
        let home = sched_getaffinity(None).unwrap();
        let may_visit_all = processors(&read_to_string(ONLINE).unwrap()).unwrap().iter().all(|one| home.is_set(*one));
        let visited = visit_all(&File::open(ONLINE).unwrap());
        assert!(visited.is_ok() || !may_visit_all, "{visited:?}");
        assert_eq!(sched_getaffinity(None).unwrap(), home);
    }

    #[test]
    fn whoever_may_not_visit_waits_for_a_grace_period() {
        let home = sched_getaffinity(None).unwrap();
        let absent = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&absent, format!("0,{}\n", CpuSet::MAX_CPU - 1)).unwrap();
        assert!(visit_all(absent.as_file()).is_err());
        Barrier { online: Some(absent.into_file()), next: Instant::now() }.wait().unwrap();
        Barrier { online: None, next: Instant::now() }.wait().unwrap();
        assert_eq!(sched_getaffinity(None).unwrap(), home);
    }

    #[test]
    fn a_visit_is_over_there() {
        let home = sched_getaffinity(None).unwrap();
        for processor in (0..CpuSet::MAX_CPU).filter(|processor| home.is_set(*processor)) {
            visit(processor).unwrap();
            assert_eq!(sched_getcpu(), processor);
        }
    }
}
