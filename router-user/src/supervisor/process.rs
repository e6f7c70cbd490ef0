//! A child process, by its pid: one that this program has started, or one that is there since before an upgrade of it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use ::connection::descriptors::register;
use nix::sys::signal::{Signal, kill};
use nix::unistd;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::child::Role;
use super::roster::{Entry, Roster};

/// A child that has not been waited for. Is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    /// Readable once it has ended (pidfd_open(2)).
    end: AsyncFd<OwnedFd>,
    entry: Arc<Entry>,
    roster: Roster,
    is_reaped: bool,
}

impl Process {
    /// Starts `program`. Its standard input is `stdin`, or the end of a pipe that ends with us. Needs a tokio runtime with
    /// I/O.
    pub(super) fn start(
        program: &Path,
        arguments: &[OsString],
        stdin: Option<OwnedFd>,
        roster: &Roster,
        role: Role,
    ) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(stdin.map_or_else(Stdio::piped, Stdio::from))
            // What the service manager passes is the supervisor's.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            // A Ctrl-C in the terminal reaches the supervisor alone, which then drains in order.
            .process_group(0)
            .spawn()?;
        let lifeline = child.stdin.take().map(OwnedFd::from);
        // Nobody else waits for it, so the pid stays its own.
        let pid = Pid::from_child(&child);
        Self::watch(pid, lifeline, roster, role).inspect_err(|_| {
            // What cannot be watched is not kept.
            let _ = child.kill().and_then(|()| child.wait());
        })
    }

    /// A child of the program that this process was before. Needs a tokio runtime with I/O.
    pub(super) fn inherit(pid: i32, lifeline: Option<OwnedFd>, roster: &Roster, role: Role) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).filter(|pid| !pid.is_init()).ok_or(io::ErrorKind::InvalidInput)?;
        Self::watch(pid, lifeline, roster, role)
    }

    fn watch(pid: Pid, lifeline: Option<OwnedFd>, roster: &Roster, role: Role) -> io::Result<Self> {
        let end = register(pidfd_open(pid, PidfdFlags::NONBLOCK)?, Interest::READABLE)?;
        let entry = roster.enter(pid.as_raw_nonzero().get(), role, lifeline);
        Ok(Self { pid, end, entry, roster: roster.clone(), is_reaped: false })
    }

    /// It has no place any more and ends with its connections.
    pub(super) fn leaves(&self) {
        self.entry.leaves();
    }

    /// For log lines.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Resolves when it has ended. Cancel-safe.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let ended = self.end.async_io(Interest::READABLE, |end| {
            let ended = waitid(WaitId::PidFd(end.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?;
            ended.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        let status = ended.await?;
        self.is_reaped = true;
        self.roster.remove(self.pid());
        // As wait(2) has it: the signal below the exit code.
        let code = status.exit_status().unwrap_or(0) << 8 | status.terminating_signal().unwrap_or(0);
        Ok(ExitStatus::from_raw(code))
    }

    /// Sends it a signal. One that is gone already is what we want.
    pub(super) fn tell(&self, signal: Signal) {
        if !self.is_reaped {
            let _ = kill(unistd::Pid::from_raw(self.pid()), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tell(Signal::SIGKILL);
        self.roster.remove(self.pid());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let arguments = ["-c".into(), script.into()];
        Process::start(Path::new("/bin/sh"), &arguments, None, &Roster::default(), Role::Router).unwrap()
    }

    #[tokio::test]
    async fn ends_are_told_as_they_were() {
        assert_eq!(shell("exit 3").wait().await.unwrap().code(), Some(3));
        assert_eq!(shell("kill -9 $$").wait().await.unwrap().signal(), Some(9));
        let mut inherited = shell("read line; exit 4");
        assert_eq!(inherited.roster.all().len(), 1);
        // It reads to the end of its standard input, which is ours to bring about.
        inherited.entry = Roster::default().enter(inherited.pid(), Role::Router, None);
        inherited.roster.remove(inherited.pid());
        assert_eq!(inherited.wait().await.unwrap().code(), Some(4));
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_an_error() {
        assert!(Process::start(Path::new("/dev/null"), &[], None, &Roster::default(), Role::Router).is_err());
    }
}
