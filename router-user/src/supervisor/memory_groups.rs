//! The cgroups of terminators with `sandbox.memoryMax`: where they can be made, and whether the kernel has killed in one
//! for lack of memory. The terminators make and enter them themselves, before they drop their privileges.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tracing::warn;

/// Where the groups are made; found out when the first one is needed. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct MemoryGroups {
    instance: u64,
    base: Arc<OnceLock<Result<PathBuf, String>>>,
}

impl MemoryGroups {
    pub(super) fn new(runtime_dir: &Path) -> Self {
        Self { instance: fnv(runtime_dir.as_os_str().as_encoded_bytes()), base: Arc::default() }
    }

    /// The same, where a former program of this process has found them already.
    pub(super) fn inherit(runtime_dir: &Path, base: Option<PathBuf>) -> Self {
        let groups = Self::new(runtime_dir);
        if let Some(base) = base {
            // Nobody else has it yet.
            let _ = groups.base.set(Ok(base));
        }
        groups
    }

    /// Where they are made, as far as that is known.
    pub(super) fn base(&self) -> Option<PathBuf> {
        self.base.get()?.as_ref().ok().cloned()
    }

    /// The group of one tenant's terminator; `None`, after one line that says why, where there can be none.
    pub(super) fn of(&self, tenant: &str) -> Option<PathBuf> {
        let base = self.base.get_or_init(|| {
            let base = find();
            if let Err(reason) = &base {
                warn!(reason, "sandbox.memoryMax has no effect");
            }
            base
        });
        let name = format!("sni-terminator-{:08x}-{tenant}", self.instance as u32);
        base.as_ref().ok().map(|base| base.join(name))
    }
}

/// Processes that the kernel has killed in this group for lack of memory.
pub(super) fn out_of_memory_kills(group: &Path) -> u64 {
    ["memory.events", "memory.oom_control"]
        .iter()
        .find_map(|file| fs::read_to_string(group.join(file)).ok())
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()))
        .unwrap_or(0)
}

/// The folder of this process's own group in the hierarchy that limits memory.
fn find() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"));
    let (mounts, memberships) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    match own_group(&mounts, &memberships).ok_or("no cgroup hierarchy is mounted that limits memory")? {
        OwnGroup { folder, is_v2: false } => Ok(folder),
        OwnGroup { folder, is_v2: true } => delegate(&folder).map(|()| folder),
    }
}

/// Version 2 limits the groups below one only if that itself holds no process (cgroup-v2.rst, "No Internal Process
/// Constraint"), so this process moves into a group of its own, where its children start.
fn delegate(folder: &Path) -> Result<(), String> {
    let failed = |operation: &'static str, path: &Path, error: io::Error| {
        format!("{operation} {}: {error}; with systemd, Delegate=memory lets a service do it", path.display())
    };
    let control = folder.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&control).map_err(|error| failed("read", &control, error))?;
    if enabled.split_whitespace().any(|controller| controller == "memory") {
        return Ok(());
    }
    let own = folder.join("sni-router");
    match fs::create_dir(&own) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make", &own, error)),
        _ => {}
    }
    fs::write(own.join("cgroup.procs"), "0").map_err(|error| failed("enter", &own, error))?;
    fs::write(&control, "+memory").map_err(|error| failed("enable memory in", &control, error))
}

#[derive(Debug, PartialEq, Eq)]
struct OwnGroup {
    folder: PathBuf,
    is_v2: bool,
}

/// From the texts of /proc/self/mountinfo and /proc/self/cgroup (proc_pid_mountinfo(5), cgroups(7)). A controller belongs to
/// one version at a time, and on hosts that have both it is most often the first.
fn own_group(mounts: &str, memberships: &str) -> Option<OwnGroup> {
    let place = |is_v2: bool| {
        let path = memberships.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_it = if is_v2 { controllers.is_empty() } else { controllers.split(',').any(|one| one == "memory") };
            is_it.then_some(path)
        })?;
        let (mount, root) = mounts.lines().find_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let mut fields = front.split(' ').skip(3);
            let (root, mount) = (fields.next()?, fields.next()?);
            let (kind, options) = (back.split(' ').next()?, back.split(' ').nth(2)?);
            let is_it = match is_v2 {
                true => kind == "cgroup2",
                false => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
            };
            is_it.then_some((mount, root))
        })?;
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(path.trim_start_matches('/')));
        Some(OwnGroup { folder: Path::new(mount).join(below.strip_prefix("/").unwrap_or(below)), is_v2 })
    };
    place(false).or_else(|| place(true))
}

/// FNV-1a, to tell instances apart.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
    const V2: &str = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn found(mounts: &str, memberships: &str) -> Option<(String, bool)> {
        own_group(mounts, memberships).map(|group| (group.folder.display().to_string(), group.is_v2))
    }

    #[test]
    fn the_own_group_is_found_in_either_version() {
        assert_eq!(found(V1, "4:memory:/a/b\n0::/\n"), Some(("/sys/fs/cgroup/memory/a/b".into(), false)));
        let service = "0::/system.slice/sni-router.service\n";
        assert_eq!(found(V2, service), Some(("/sys/fs/cgroup/system.slice/sni-router.service".into(), true)));
        assert_eq!(
            found(&format!("{V2}{V1}"), "4:memory:/x\n0::/y\n"),
            Some(("/sys/fs/cgroup/memory/x".into(), false))
        );
        assert_eq!(found(V2, "0::/\n"), Some(("/sys/fs/cgroup/".into(), true)));
        assert_eq!(found("", "0::/\n"), None);
    }

    #[test]
    fn a_part_of_the_hierarchy_may_be_mounted() {
        let mounts = "35 31 0:32 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(found(mounts, "4:memory:/docker/1/a\n"), Some(("/sys/fs/cgroup/memory/a".into(), false)));
    }

    #[test]
    fn kills_are_read_from_the_files_of_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(out_of_memory_kills(folder.path()), 0);
        fs::write(folder.path().join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n").unwrap();
        assert_eq!(out_of_memory_kills(folder.path()), 2);
        fs::write(folder.path().join("memory.events"), "low 0\nmax 9\noom 3\noom_kill 3\n").unwrap();
        assert_eq!(out_of_memory_kills(folder.path()), 3);
    }
}
