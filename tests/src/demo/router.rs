//! The demo's `sni-router run`: started in a process group of its own, ended with the demo.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{SigSet, Signal};

use super::Options;
use super::files::Files;
use crate::binaries::beside_us;
use crate::http;
use crate::metrics::Metrics;
use crate::patience::{PATIENCE, eventually};
use crate::processes::Pid;
use crate::router_process::send_signal;
use crate::tls_client::tcp;

/// The supervisor; its children end with it.
pub(super) struct Router {
    supervisor: Child,
    log: PathBuf,
}

impl Router {
    /// Starts it and waits until both tenants can be reached.
    pub(super) fn start(files: &Files, options: &Options) -> Result<Self> {
        let log = File::create(&files.log).with_context(|| format!("write {}", files.log.display()))?;
        let mut command = Command::new(beside_us("sni-router")?);
        // Ctrl-C goes to the terminal's foreground group: the demo alone hears it and then drains the router.
        command.args(["run", "--config"]).arg(&files.config).env("NO_COLOR", "1").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let supervisor = spawn_with_signals_unblocked(command)?;
        let mut router = Self { supervisor, log: files.log.clone() };
        let admin = options.admin;
        let ready = eventually(PATIENCE, "sni-router is ready", || {
            if let Err(error) = router.must_be_running() {
                return Some(Err(error));
            }
            let ask = |path| http::get(&mut tcp(admin).ok()?, "localhost", path).ok();
            let up = Metrics::parse(&ask("/metrics")?.body).ok()?.sum("sni_terminator_up", &[("tenant", "acme")]);
            (ask("/readyz")?.status == 200 && up == 1.0).then_some(Ok(()))
        });
        ready.and_then(|outcome| outcome).with_context(|| format!("see {}", files.log.display()))?;
        Ok(router)
    }

    /// An error with the end of the log once it has exited.
    pub(super) fn must_be_running(&mut self) -> Result<()> {
        if let Some(status) = self.supervisor.try_wait().context("wait for sni-router")? {
            bail!("sni-router ended ({status}):\n{}", self.last_log_lines());
        }
        Ok(())
    }

    /// Drains it.
    pub(super) fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let supervisor = &mut self.supervisor;
        eventually(PATIENCE, "sni-router stops", || supervisor.try_wait().ok().flatten()).map(drop)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        send_signal(Pid::try_from(self.supervisor.id())?, signal)
    }

    fn last_log_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if matches!(self.supervisor.try_wait(), Ok(None)) {
            // The second SIGTERM means now; the supervisor ends its children, a SIGKILL would leave that to them.
            let _ = self.signal(Signal::SIGTERM);
            let _ = self.signal(Signal::SIGTERM);
            let supervisor = &mut self.supervisor;
            let ended = eventually(STOP_LIMIT, "sni-router stops", || supervisor.try_wait().ok().flatten());
            if ended.is_err() {
                let _ = self.supervisor.kill();
            }
        }
    }
}

/// A child inherits the mask of the thread that starts it, and the router must hear its SIGTERM.
fn spawn_with_signals_unblocked(mut command: Command) -> Result<Child> {
    let spawned = thread::spawn(move || {
        SigSet::empty().thread_set_mask().context("unblock signals")?;
        command.spawn().context("start sni-router")
    });
    spawned.join().unwrap_or_else(|_| Err(anyhow!("the starting thread panicked")))
}

const LOG_LINES_SHOWN: usize = 10;
const STOP_LIMIT: Duration = Duration::from_secs(5);
