//! A started `sni-router run`, seen from outside: its endpoints, its log, its processes. Ends all of them when dropped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd;

use crate::binaries;
use crate::http::{self, Response};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::patience::{PATIENCE, eventually};
use crate::processes::{self, Pid};
use crate::scratch::Scratch;
use crate::service_manager::ServiceManager;
use crate::setup::{Setup, Written};
use crate::tls_client::tcp;

/// The supervisor and its children.
pub struct RouterProcess {
    supervisor: Child,
    program: PathBuf,
    written: Written,
    log: Log,
    scratch: Scratch,
}

impl RouterProcess {
    /// Starts the router and waits until it is ready, with every terminator up.
    pub fn start(setup: Setup) -> Result<Self> {
        Self::start_in(Scratch::new()?, setup)
    }

    /// The same, in a folder that already holds files of the scenario's own.
    pub fn start_in(scratch: Scratch, setup: Setup) -> Result<Self> {
        let written = setup.write(&scratch)?;
        Self::launch(scratch, written, "info")?.ready()
    }

    /// The same, of programs in the scenario's own folder, which it may replace.
    pub fn start_copy(setup: Setup) -> Result<Self> {
        let scratch = Scratch::new()?;
        let written = setup.write(&scratch)?;
        let program = copy_programs(&scratch)?;
        Self::launch_program(program, scratch, written, "info")?.ready()
    }

    /// The same as this user, who is not root and to whom everything of the scenario belongs.
    pub fn start_copy_as(setup: Setup, uid: u32) -> Result<Self> {
        let scratch = Scratch::new()?;
        let written = setup.write(&scratch)?;
        let program = copy_programs(&scratch)?;
        give_all(scratch.path(), uid)?;
        let mut command = Command::new(&program);
        command.uid(uid).gid(uid);
        let (supervisor, log) = spawn_by(command, &scratch, &written, "info")?;
        Self { supervisor, program, written, log, scratch }.ready()
    }

    /// The same, with a line for each connection.
    pub fn start_with_debug_log(setup: Setup) -> Result<Self> {
        let scratch = Scratch::new()?;
        let written = setup.write(&scratch)?;
        Self::launch(scratch, written, "debug")?.ready()
    }

    /// The same, with these variables in the environment of all processes; `variables` gets the scenario's folder.
    pub fn start_with_environment(
        setup: Setup,
        variables: impl FnOnce(&Path) -> Vec<(&'static str, OsString)>,
    ) -> Result<Self> {
        let scratch = Scratch::new()?;
        let written = setup.write(&scratch)?;
        let variables = variables(scratch.path());
        let program = binaries::sni_router()?;
        let (supervisor, log) = spawn_with(&program, &scratch, &written, "info", &variables)?;
        Self { supervisor, program, written, log, scratch }.ready()
    }

    /// The same, as a service: `manager` gets the scenario's folder and what was written, before the start.
    pub fn start_as_service(
        setup: Setup,
        manager: impl FnOnce(&Path, &Written) -> Result<ServiceManager>,
    ) -> Result<(Self, ServiceManager)> {
        let scratch = Scratch::new()?;
        let written = setup.write(&scratch)?;
        let manager = manager(scratch.path(), &written)?;
        let program = binaries::sni_router()?;
        let (supervisor, log) = spawn_by(manager.command(&program)?, &scratch, &written, "info")?;
        Ok((Self { supervisor, program, written, log, scratch }.ready()?, manager))
    }

    /// Starts it again by the same manager, once it has ended. The log begins anew.
    pub fn start_service_again(&mut self, manager: &ServiceManager) -> Result<()> {
        let command = manager.command(&self.program)?;
        (self.supervisor, self.log) = spawn_by(command, &self.scratch, &self.written, "info")?;
        self.wait_until_ready()
    }

    /// Starts the router on files that are written, with this filter of the log, and does not wait.
    pub fn launch(scratch: Scratch, written: Written, filter: &str) -> Result<Self> {
        Self::launch_program(binaries::sni_router()?, scratch, written, filter)
    }

    fn launch_program(program: PathBuf, scratch: Scratch, written: Written, filter: &str) -> Result<Self> {
        let (supervisor, log) = spawn(&program, &scratch, &written, filter)?;
        Ok(Self { supervisor, program, written, log, scratch })
    }

    /// Drains, and starts again with the same files once `between` has done something to them. The log begins anew.
    pub fn start_again(&mut self, between: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.wait_for_exit(PATIENCE)?;
        between(self.folder())?;
        (self.supervisor, self.log) = spawn(&self.program, &self.scratch, &self.written, "info")?;
        self.wait_until_ready()
    }

    fn ready(self) -> Result<Self> {
        self.wait_until_ready()?;
        Ok(self)
    }

    /// Waits for /readyz, for the terminators and for the admin socket, which the supervisor puts in its place a moment later.
    pub fn wait_until_ready(&self) -> Result<()> {
        eventually(PATIENCE, "sni-router is ready", || {
            let answer = self.admin_get("/readyz").ok()?;
            UnixStream::connect(self.folder().join("run/admin.sock")).ok()?;
            let metrics = self.metrics().ok()?;
            let up = |tenant: &String| metrics.sum("sni_terminator_up", &[("tenant", tenant)]) == 1.0;
            (answer.status == 200 && self.written.terminated.iter().all(up)).then_some(())
        })
        .with_context(|| format!("the log:\n{}", self.log.lines().join("\n")))
    }

    /// The first listener.
    pub fn address(&self) -> SocketAddr {
        self.written.listeners[0].1
    }

    /// The listener of this name.
    pub fn listener(&self, name: &str) -> Result<SocketAddr> {
        let listener = self.written.listeners.iter().find(|(listener, _)| listener == name);
        Ok(listener.with_context(|| format!("no listener {name}"))?.1)
    }

    /// The admin endpoint.
    pub fn admin(&self) -> SocketAddr {
        self.written.admin
    }

    /// The folder that holds the configuration, the secrets and the runtimeDir.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The program that was started.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The configuration file.
    pub fn config_file(&self) -> &Path {
        &self.written.path
    }

    /// Asks the admin endpoint.
    pub fn admin_get(&self, path: &str) -> Result<Response> {
        http::get(&mut tcp(self.written.admin)?, "localhost", path)
    }

    /// Scrapes the metrics.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&self.admin_get("/metrics")?.body)
    }

    /// Waits until a counter has at least this value.
    pub fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<()> {
        eventually(PATIENCE, &format!("{name}{labels:?} >= {value}"), || {
            self.metrics().ok().filter(|metrics| metrics.sum(name, labels) >= value).map(drop)
        })
        .with_context(|| {
            format!("the metrics:\n{}", self.admin_get("/metrics").map(|answer| answer.body).unwrap_or_default())
        })
    }

    /// What all processes logged.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What all processes wrote to their standard output.
    pub fn stdout(&self) -> Result<String> {
        fs::read_to_string(self.scratch.join("stdout")).context("read the standard output")
    }

    /// The supervisor.
    pub fn supervisor_pid(&self) -> Result<Pid> {
        Pid::try_from(self.supervisor.id()).context("pid")
    }

    /// The router, once it runs.
    pub fn router_pid(&self) -> Result<Pid> {
        self.child(&["router", "--config"])
    }

    /// A tenant's terminator, once it runs.
    pub fn terminator_pid(&self, tenant: &str) -> Result<Pid> {
        self.child(&["serve", "--tenant", tenant])
    }

    /// The process that looks at backends' certificates, once it runs.
    pub fn prober_pid(&self) -> Result<Pid> {
        self.child(&["probe", "--config"])
    }

    /// All processes, the supervisor first.
    pub fn pids(&self) -> Result<Vec<Pid>> {
        let supervisor = self.supervisor_pid()?;
        Ok([vec![supervisor], processes::descendants(supervisor)].concat())
    }

    /// Sends the supervisor a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send_signal(self.supervisor_pid()?, signal)
    }

    /// Waits for the supervisor's end.
    pub fn wait_for_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let supervisor = &mut self.supervisor;
        eventually(limit, "sni-router exits", || supervisor.try_wait().ok().flatten())
            .with_context(|| format!("the log:\n{}", self.log.lines().join("\n")))
    }

    fn child(&self, words: &[&str]) -> Result<Pid> {
        let supervisor = self.supervisor_pid()?;
        eventually(PATIENCE, &format!("a child with {words:?}"), || {
            processes::descendants(supervisor).into_iter().find(|pid| {
                let arguments = processes::command_line(*pid);
                words.iter().all(|word| arguments.iter().skip(1).any(|argument| argument == word))
            })
        })
    }
}

fn spawn(program: &Path, scratch: &Scratch, written: &Written, filter: &str) -> Result<(Child, Log)> {
    spawn_with(program, scratch, written, filter, &[])
}

fn spawn_with(
    program: &Path,
    scratch: &Scratch,
    written: &Written,
    filter: &str,
    variables: &[(&'static str, OsString)],
) -> Result<(Child, Log)> {
    let mut command = Command::new(program);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    spawn_by(command, scratch, written, filter)
}

fn spawn_by(mut command: Command, scratch: &Scratch, written: &Written, filter: &str) -> Result<(Child, Log)> {
    // A file instead of a pipe, as for the log: lines of killed processes are not lost, and nobody waits for a reader.
    let stdout = File::options().create(true).append(true).open(scratch.join("stdout"));
    let (log, stderr) = Log::begin_in(scratch.path())?;
    let supervisor = command
        .args(["run", "--config"])
        .arg(&written.path)
        .env("SNI_ROUTER_LOG", filter)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(stdout.context("file for the standard output")?)
        .stderr(stderr)
        .spawn()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    Ok((supervisor, log))
}

/// The router's program in the scenario's folder, and the terminator's beside it.
fn copy_programs(scratch: &Scratch) -> Result<PathBuf> {
    let folder = scratch.join("bin");
    fs::create_dir(&folder).context("folder for the programs")?;
    let program = binaries::sni_router()?;
    for (name, from) in [("sni-router", program), ("sni-terminator", binaries::beside_us("sni-terminator")?)] {
        let to = folder.join(name);
        // Without a copy of hundreds of megabytes, where the folders are on one file system.
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(folder.join("sni-router"))
}

/// A folder and what is in it, but not the programs, which may be links to those of other scenarios.
fn give_all(path: &Path, uid: u32) -> Result<()> {
    chown(path, Some(uid), Some(uid)).with_context(|| format!("give {} to uid {uid}", path.display()))?;
    if path.is_dir() && !path.ends_with("bin") {
        for entry in fs::read_dir(path).with_context(|| format!("list {}", path.display()))? {
            give_all(&entry?.path(), uid)?;
        }
    }
    Ok(())
}

impl Drop for RouterProcess {
    fn drop(&mut self) {
        // The children are asked for first: once the supervisor is gone they are init's.
        let children = self.pids().unwrap_or_default().into_iter().skip(1);
        let running = matches!(self.supervisor.try_wait(), Ok(None));
        if running {
            let _ = self.supervisor.kill();
            let _ = self.supervisor.wait();
        }
        for child in children {
            let _ = send_signal(child, Signal::SIGKILL);
        }
    }
}

/// Stops one process until it gets a SIGCONT, and waits until it does nothing any more: its threads stop one after the other,
/// each when it is scheduled next (signal(7), and kernel/signal.c, do_signal_stop).
pub fn suspend(pid: Pid) -> Result<()> {
    send_signal(pid, Signal::SIGSTOP)?;
    eventually(PATIENCE, "all threads are stopped", || all_stopped(pid).ok().filter(|stopped| *stopped).map(drop))
}

fn all_stopped(pid: Pid) -> Result<bool> {
    let mut stopped = true;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        stopped &= status.lines().any(|line| line.starts_with("State:\tT"));
    }
    Ok(stopped)
}

/// Sends one process a signal.
pub fn send_signal(pid: Pid, signal: Signal) -> Result<()> {
    if pid <= 1 {
        bail!("{pid} is no process of ours");
    }
    kill(unistd::Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to {pid}"))
}
