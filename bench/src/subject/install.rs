//! Finds the peers' programs and, as root on Debian, installs what is missing.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Installs these Debian packages, if there are any. What does not work is said; the programs' absence is noticed when
/// they are to be started.
pub(super) fn install(packages: &[&str]) {
    if packages.is_empty() || !nix::unistd::geteuid().is_root() || find("apt-get").is_err() {
        return;
    }
    eprintln!("installing from Debian: {}", packages.join(" "));
    let install = [["install", "-qq", "--yes", "--no-install-recommends"].as_slice(), packages].concat();
    if let Err(error) = apt_get(&["update", "-qq"]).and_then(|()| apt_get(&install)) {
        eprintln!("{error:#}");
    }
}

/// Ordinary users' PATH lacks the folders of the system's daemons.
pub(super) fn find(program: &str) -> Result<PathBuf> {
    let path = env::var("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let mut candidates = folders.map(|folder| folder.join(program));
    candidates.find(|candidate| candidate.is_file()).with_context(|| format!("{program} is not installed"))
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=120"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    // The packages would start their services, for sysvinit and systemd respectively.
    command.env("RUNLEVEL", "1").env("SYSTEMD_OFFLINE", "1");
    let done = command.output().context("start apt-get")?;
    if !done.status.success() {
        bail!("apt-get {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
