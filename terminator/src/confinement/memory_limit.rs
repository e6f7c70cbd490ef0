//! The memory that this process may use (cgroups(7)): it enters a group of its own while it may, and never leaves it.

use std::fs;
use std::io;
use std::path::Path;

/// Makes the group, if it is not there from a process before, limits it and enters it. Both versions of the interface.
pub(crate) fn enter(group: Option<&Path>, bytes: u64) -> Result<(), String> {
    let Some(group) = group else {
        return Err(
            "no memory cgroup that sni-router may write to; under Kubernetes set resources.limits.memory".into()
        );
    };
    let failed = |operation: &str, error: io::Error| format!("{operation} {}: {error}", group.display());
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make", error)),
        _ => {}
    }
    let (limit, with_swap) = if group.join(LIMIT_V2).exists() { (LIMIT_V2, None) } else { (LIMIT_V1, Some(SWAP_V1)) };
    let value = bytes.to_string();
    fs::write(group.join(limit), &value).map_err(|error| failed("limit", error))?;
    // Without swap accounting there is no such file; where there is, memory must not be exchanged for swap.
    let swap = if limit == LIMIT_V2 { fs::write(group.join(SWAP_V2), "0") } else { Ok(()) };
    let _ = with_swap.map_or(swap, |file| fs::write(group.join(file), &value));
    // 0 stands for the writing process, with all its threads.
    fs::write(group.join("cgroup.procs"), "0").map_err(|error| failed("enter", error))
}

/// Documentation/admin-guide/cgroup-v2.rst.
const LIMIT_V2: &str = "memory.max";
const SWAP_V2: &str = "memory.swap.max";
/// Documentation/admin-guide/cgroup-v1/memory.rst.
const LIMIT_V1: &str = "memory.limit_in_bytes";
const SWAP_V1: &str = "memory.memsw.limit_in_bytes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_group_is_told() {
        assert!(enter(None, 1 << 20).unwrap_err().contains("no memory cgroup"));
        let error = enter(Some(Path::new("/nowhere/group")), 1 << 20).unwrap_err();
        assert!(error.starts_with("make /nowhere/group"), "{error}");
    }

    #[test]
    fn the_files_of_both_versions_are_written() {
        let folder = tempfile::tempdir().unwrap();
        for (name, existing, limit) in [("v2", LIMIT_V2, LIMIT_V2), ("v1", "tasks", LIMIT_V1)] {
            let group = folder.path().join(name);
            fs::create_dir(&group).unwrap();
            fs::write(group.join(existing), "").unwrap();
            enter(Some(&group), 4096).unwrap();
            assert_eq!(fs::read_to_string(group.join(limit)).unwrap(), "4096");
            assert_eq!(fs::read_to_string(group.join("cgroup.procs")).unwrap(), "0");
        }
    }
}
