//! A child process, by its pid: one that this program has started, or one that is there since before an upgrade of it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use ::connection::descriptors::register;
use nix::sys::signal::{Signal, kill};
use nix::unistd;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A child that has not been waited for. Is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    /// Readable once it has ended (pidfd_open(2)).
    end: AsyncFd<OwnedFd>,
    /// Its standard input where that only tells whether we are there.
    _lifeline: Option<OwnedFd>,
    is_reaped: bool,
}

impl Process {
    /// Starts `program`. Its standard input is `stdin`, or the end of a pipe that ends with us. Needs a tokio runtime with
    /// I/O.
    pub(super) fn start(program: &Path, arguments: &[OsString], stdin: Option<OwnedFd>) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(stdin.map_or_else(Stdio::piped, Stdio::from))
            // A Ctrl-C in the terminal reaches the supervisor alone, which then drains in order.
            .process_group(0)
            .spawn()?;
        let lifeline = child.stdin.take().map(OwnedFd::from);
        // Nobody else waits for it, so the pid stays its own.
        let pid = Pid::from_child(&child);
        let end = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(io::Error::from);
        match end.and_then(|end| register(end, Interest::READABLE)) {
            Ok(end) => Ok(Self { pid, end, _lifeline: lifeline, is_reaped: false }),
            Err(error) => {
                // What cannot be watched is not kept.
                let _ = child.kill().and_then(|()| child.wait());
                Err(error)
            }
        }
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start(Path::new("/bin/sh"), &["-c".into(), script.into()], None).unwrap()
    }

    #[tokio::test]
    async fn ends_are_told_as_they_were() {
        assert_eq!(shell("exit 3").wait().await.unwrap().code(), Some(3));
        assert_eq!(shell("kill -9 $$").wait().await.unwrap().signal(), Some(9));
        // It reads to the end of its standard input, which is ours to bring about.
        let mut reader = shell("cat");
        reader._lifeline = None;
        assert!(reader.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_an_error() {
        assert!(Process::start(Path::new("/dev/null"), &[], None).is_err());
    }
}
