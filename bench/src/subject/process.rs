//! A started router of any make, with its children. Ended when dropped.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::network::Place;
use tests::patience::eventually;
use tests::processes::{self, Pid};
use tests::router_process::send_signal;
use tests::scratch::Scratch;

pub(crate) struct Process {
    child: Mutex<Child>,
    pid: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in this place; what it says goes to a file of this name.
    pub(crate) fn start(scratch: &Scratch, place: &Place, name: &str, mut command: Command) -> Result<Self> {
        let log = scratch.join(&format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = place.run(|| command.spawn().with_context(|| format!("start {name}")))?;
        let pid = Pid::try_from(child.id()).context("a process id")?;
        Ok(Self { child: Mutex::new(child), pid, log })
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait(), Ok(None))
    }

    /// User and system time of the process and all that it started.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        self.family().map(processes::cpu_time).sum()
    }

    /// Proportional set size of the process and all that it started, in bytes.
    pub(super) fn memory(&self) -> Result<u64> {
        self.family().map(processes::proportional_set_size).sum()
    }

    /// What the eBPF maps take that it holds descriptors of.
    pub(super) fn map_bytes(&self) -> Result<u64> {
        self.family().map(processes::ebpf_map_bytes).sum()
    }

    fn family(&self) -> impl Iterator<Item = Pid> + use<> {
        std::iter::once(self.pid).chain(processes::descendants(self.pid))
    }

    /// What it said, so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let children = processes::descendants(self.pid);
        // The second one means now to sni-router; haproxy and nginx leave at the first.
        for _ in 0..2 {
            if self.is_running() {
                let _ = send_signal(self.pid, Signal::SIGTERM);
            }
        }
        if eventually(END_PATIENCE, "the process ends", || (!self.is_running()).then_some(())).is_err() {
            let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
        }
        for child in children.into_iter().filter(|child| processes::is_running(*child)) {
            let _ = send_signal(child, Signal::SIGKILL);
        }
    }
}

const END_PATIENCE: Duration = Duration::from_secs(3);
