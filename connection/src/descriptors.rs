//! Descriptors: how many there may be, and the registration of those with tokio that it has no type for.

use std::io;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use crate::seqpacket::register;

/// Raises this process's soft limit to the hard one (getrlimit(2)): each connection takes two or more, and the usual one
/// of 1024 dates from select(2).
pub fn raise_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Has the kernel make its table of this process's descriptors so large, 8 bytes each, as far as the limit allows. It grows by
/// itself, but with several threads it waits for an RCU grace period each time (fs/file.c, expand_fdtable), and whoever needs
/// a descriptor waits with it: for seconds on a busy host. So call it while there is one thread; tables never shrink.
pub fn make_room(descriptors: u32) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let highest = limit.min(descriptors.into()).saturating_sub(1);
    fcntl_dupfd_cloexec(io::stderr(), i32::try_from(highest).unwrap_or(i32::MAX))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// One test, because the limit is the process's.
    #[test]
    fn the_soft_limit_becomes_the_hard_one_and_there_is_room_below_it() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(512), maximum }).unwrap();
        make_room(u32::MAX).unwrap();
        assert!(room() >= 512);
        raise_limit().unwrap();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: maximum, maximum });
        let wanted = room() + 100;
        make_room(wanted).unwrap();
        assert!(u64::from(room()) >= maximum.unwrap_or(u64::MAX).min(wanted.into()));
        assert!(!fs::exists(format!("/proc/self/fd/{}", wanted - 1)).unwrap(), "it is closed again");
    }

    /// Places of the table (proc_pid_status(5), FDSize).
    fn room() -> u32 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        size.trim().parse().unwrap()
    }
}
