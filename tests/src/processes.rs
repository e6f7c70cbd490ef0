//! What /proc says about a process: its children, its open descriptors, its credentials (proc(5)).

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// A process id as /proc has it.
pub type Pid = i32;

/// The direct children of `parent`.
pub fn children(parent: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

/// The children, and theirs.
pub fn descendants(ancestor: Pid) -> Vec<Pid> {
    let mut found = children(ancestor);
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

/// The arguments, the program first; empty once the process is gone or a zombie.
pub fn command_line(pid: Pid) -> Vec<String> {
    let Ok(bytes) = fs::read(format!("/proc/{pid}/cmdline")) else { return Vec::new() };
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// What each open descriptor refers to, such as `socket:[4711]` or a path.
pub fn open_descriptors(pid: Pid) -> Result<Vec<String>> {
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {folder}"))?;
    Ok(entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).map(|target| lossy(&target)).collect())
}

/// User and system time that the process and its threads have used.
pub fn cpu_time(pid: Pid) -> Result<Duration> {
    let fields = stat_fields(pid).with_context(|| format!("no process {pid}"))?;
    // utime and stime are fields 14 and 15 of proc_pid_stat(5); ours begin with field 3.
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    let hertz = sysconf(SysconfVar::CLK_TCK)?.and_then(|hertz| u64::try_from(hertz).ok()).context("CLK_TCK")?;
    Ok(Duration::from_millis(ticks * 1000 / hertz))
}

/// Memory in bytes, shared pages by their share (PSS, proc_pid_smaps(5)).
pub fn proportional_set_size(pid: Pid) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).with_context(|| format!("Pss in {path}"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().with_context(|| format!("Pss in {path}"))?;
    Ok(kilobytes * 1024)
}

/// Memory in bytes of the eBPF maps that the process has descriptors of, each map once.
pub fn ebpf_map_bytes(pid: Pid) -> Result<u64> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {folder}"))?;
    let mut maps = std::collections::HashMap::new();
    for text in entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok()) {
        let number = |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        if let (Some(map), Some(bytes)) = (number("map_id:"), number("memlock:")) {
            maps.insert(map, bytes);
        }
    }
    Ok(maps.values().sum())
}

/// The fields of /proc/PID/status.
pub fn status(pid: Pid) -> Result<Status> {
    let path = format!("/proc/{pid}/status");
    Ok(Status(fs::read_to_string(&path).with_context(|| format!("read {path}"))?))
}

/// The text of /proc/PID/status.
pub struct Status(String);

impl Status {
    /// One field's value, blanks trimmed.
    pub fn field(&self, name: &str) -> Result<&str> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).with_context(|| format!("no field {name}"))
    }

    /// Real, effective, saved and file system uid.
    pub fn uids(&self) -> Result<Vec<u32>> {
        numbers(self.field("Uid")?)
    }

    /// Real, effective, saved and file system gid.
    pub fn gids(&self) -> Result<Vec<u32>> {
        numbers(self.field("Gid")?)
    }

    /// Supplementary groups.
    pub fn groups(&self) -> Result<Vec<u32>> {
        numbers(self.field("Groups")?)
    }

    /// A capability set (`CapEff`, `CapPrm`, `CapInh`, `CapBnd`, `CapAmb`) as bits.
    pub fn capabilities(&self, set: &str) -> Result<u64> {
        u64::from_str_radix(self.field(set)?, 16).with_context(|| format!("field {set}"))
    }
}

/// Whether the process runs; a zombie does not.
pub fn is_running(pid: Pid) -> bool {
    stat_fields(pid).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z"))
}

fn parent_of(pid: Pid) -> Option<Pid> {
    stat_fields(pid)?.get(1)?.parse().ok()
}

/// The fields of /proc/PID/stat after the program's name, which may itself hold blanks and parentheses.
fn stat_fields(pid: Pid) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn numbers(text: &str) -> Result<Vec<u32>> {
    text.split_whitespace().map(|number| number.parse().with_context(|| format!("number {number}"))).collect()
}

fn lossy(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
