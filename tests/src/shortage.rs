//! Takes resources away from running processes and gives them back: descriptors by their limit, everything else by
//! system calls that fail (strace's fault injection). What was taken comes back when the guard is dropped.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::processes::{Pid, cpu_time, status};
use crate::router_process::send_signal;

/// A process whose limit of open files is lower than it was.
pub struct FewDescriptors {
    pid: Pid,
    former: String,
}

impl FewDescriptors {
    /// Leaves the process so many free descriptors; it may close others.
    pub fn leave(pid: Pid, free: usize) -> Result<Self> {
        let folder = format!("/proc/{pid}/fd");
        let entries = fs::read_dir(&folder).with_context(|| format!("read {folder}"))?;
        let open: BTreeSet<u64> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        // The limit is one more than the highest number that may be given out (getrlimit(2)).
        let limit = (0_u64..).filter(|number| !open.contains(number)).nth(free).context("a number")?;
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).context("read the limits")?;
        let former = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
        let few = Self { pid, former: former.context("the soft limit")?.to_owned() };
        set_soft_limit(pid, &limit.to_string())?;
        Ok(few)
    }
}

impl Drop for FewDescriptors {
    fn drop(&mut self) {
        // The process may have gone.
        let _ = set_soft_limit(self.pid, &self.former);
    }
}

/// As the process's own user, who needs no capability for it (prlimit(2)).
fn set_soft_limit(pid: Pid, limit: &str) -> Result<()> {
    let status = status(pid)?;
    let (uid, gid) = (status.uids()?[0], status.gids()?[0]);
    let mut prlimit = Command::new("prlimit");
    prlimit.arg(format!("--pid={pid}")).arg(format!("--nofile={limit}:"));
    let done = prlimit.uid(uid).gid(gid).output().context("start prlimit, which is part of util-linux")?;
    ensure!(done.status.success(), "limit the open files of {pid}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// A process some of whose system calls fail.
pub struct FailingCalls {
    strace: Child,
    /// It must not end before strace does, which still has something to say.
    _said: BufReader<ChildStderr>,
}

impl FailingCalls {
    /// Each call of these (by strace's names, separated by commas) fails with the error from now on.
    pub fn inject(strace: &Path, process: Pid, calls: &str, error: &str) -> Result<Self> {
        let mut strace = Command::new(strace)
            .args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:error={error}"), "-p", &process.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start strace")?;
        let mut said = BufReader::new(strace.stderr.take().context("strace's stderr")?);
        let mut line = String::new();
        said.read_line(&mut line).context("hear from strace")?;
        // Said when every thread has been stopped (src/strace.c, startup_attach).
        ensure!(line.contains(" attached"), "strace does not attach: {line}");
        Ok(Self { strace, _said: said })
    }
}

impl Drop for FailingCalls {
    fn drop(&mut self) {
        // strace lets go of all threads before it ends.
        let _ = Pid::try_from(self.strace.id()).map(|pid| send_signal(pid, Signal::SIGTERM));
        let _ = self.strace.wait();
    }
}

/// Fails if the process uses much of a processor while nothing gets better: a thread that tries again and again without
/// a pause would use all that it gets.
pub fn ensure_no_busy_loop(pid: Pid) -> Result<()> {
    let (begin, before) = (Instant::now(), cpu_time(pid)?);
    thread::sleep(OBSERVED);
    let (took, used) = (begin.elapsed(), cpu_time(pid)?.saturating_sub(before));
    ensure!(used < took / 8, "{used:?} of processor time in {took:?}");
    Ok(())
}

/// Long beside the ticks in which processor time is counted, and beside all pauses.
const OBSERVED: Duration = Duration::from_secs(3);
