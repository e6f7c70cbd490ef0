//! A booted systemd with the product's unit on it: in namespaces of its own, on an overlay of this host's files, with this
//! host's network. Nothing of it is left when the value is dropped.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

use crate::binaries;
use crate::patience::{PATIENCE, eventually};
use crate::processes::{Pid, children};
use crate::scratch::Scratch;

/// The first process of a host.
pub struct SystemdHost {
    process: Child,
    init: Pid,
    cgroup: PathBuf,
    scratch: Scratch,
}

impl SystemdHost {
    /// Boots and starts nothing. `config` is the file that the unit of deploy/systemd names. Needs root.
    pub fn boot(config: &str) -> Result<Self> {
        let scratch = Scratch::new()?;
        scratch.write("config.yaml", config)?;
        let unit = binaries::workspace_folder().join("deploy/systemd/sni-router.service");
        fs::copy(&unit, scratch.join("sni-router.service")).context("copy the unit")?;
        let router = binaries::sni_router()?;
        let programs = router.parent().context("programs are in a folder")?;
        let name = scratch.path().file_name().context("a folder has a name")?;
        let cgroup = cgroups()?.join(name);
        let log = File::create(scratch.join("boot.log")).context("a file for what systemd says")?;
        let process = Command::new(binaries::workspace_folder().join("tests/clients/systemd/boot.sh"))
            .arg(scratch.path())
            .arg(&cgroup)
            .arg(programs)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("the same file")?)
            .stderr(log)
            .spawn()
            .context("start boot.sh")?;
        let mut this = Self { process, init: 0, cgroup, scratch };
        let unshared = Pid::try_from(this.process.id()).context("pid")?;
        let booted = eventually(PATIENCE, "systemd answers", || {
            this.init = *children(unshared).first()?;
            let state = this.systemctl(&["is-system-running"]).ok()?;
            String::from_utf8_lossy(&state.stdout).starts_with("running").then_some(())
        });
        booted.with_context(|| this.log())?;
        Ok(this)
    }

    /// A program of that host, to its end.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--target", &self.init.to_string(), "--"]);
        command.args(words).stdin(Stdio::null()).output().with_context(|| format!("run {words:?} on the host"))
    }

    /// `systemctl`, whatever it answers.
    pub fn systemctl(&self, words: &[&str]) -> Result<Output> {
        self.run(&[&["systemctl"], words].concat())
    }

    /// The same, which has to succeed.
    pub fn order(&self, words: &[&str]) -> Result<()> {
        let done = self.systemctl(words)?;
        ensure!(done.status.success(), "systemctl {words:?}: {done:?}\n{}", self.log());
        Ok(())
    }

    /// What systemd knows of the service.
    pub fn property(&self, name: &str) -> Result<String> {
        let shown = self.systemctl(&["show", "--value", "--property", name, "sni-router.service"])?;
        Ok(String::from_utf8_lossy(&shown.stdout).trim().to_owned())
    }

    /// The file that the service reads.
    pub fn write_config(&self, text: &str) -> Result<()> {
        let written = self.run(&["sh", "-c", "printf %s \"$1\" > /etc/sni-router/config.yaml", "sh", text])?;
        ensure!(written.status.success(), "{written:?}");
        Ok(())
    }

    /// What systemd and the service said.
    pub fn log(&self) -> String {
        let service = self.run(&["cat", "/var/log/service"]).map(|read| read.stdout).unwrap_or_default();
        let systemd = fs::read_to_string(self.scratch.join("boot.log")).unwrap_or_default();
        systemd + &String::from_utf8_lossy(&service)
    }
}

impl Drop for SystemdHost {
    fn drop(&mut self) {
        // With the first process of its namespace everything in it ends (pid_namespaces(7)).
        let _ = self.process.kill();
        let _ = self.process.wait();
        let is_gone = || {
            let _ = Command::new("find")
                .arg(&self.cgroup)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"])
                .output();
            (!self.cgroup.exists()).then_some(())
        };
        let _ = eventually(PATIENCE, "its cgroups are empty", is_gone);
    }
}

/// Where the host has version 2 of cgroups.
fn cgroups() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").context("read the mounts")?;
    let of_version_2 = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| place.into())
    };
    mounts.lines().find_map(of_version_2).context("no cgroups of version 2 are mounted")
}
