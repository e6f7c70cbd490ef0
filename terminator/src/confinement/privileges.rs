//! Gives up what the process does not need, before it reads a key or a byte from a client.
//! Decides nothing about who it becomes (that is `identity`) and reports only what it has verified.

use std::io;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use thiserror::Error;

use crate::identity::Identity;

/// What holds after [`confine`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    /// The uid and gid that the process runs under from here on.
    pub(super) identity: Identity,
    /// Whether they were changed; otherwise the process runs as whoever started it.
    pub(super) dropped: bool,
}

/// Forbids new privileges and, where the process is no root that still needs them, gives up all capabilities. Both
/// apply to the calling thread and its descendants only, so this comes before any other thread.
pub(crate) fn forbid_new_privileges() -> Result<(), ConfineError> {
    prctl::set_no_new_privs().map_err(|error| ConfineError::step("prctl(PR_SET_NO_NEW_PRIVS)", error))?;
    if !geteuid().is_root() {
        drop_capabilities()?;
    }
    Ok(())
}

/// Becomes `target` when started as root, for good; forbids core dumps and inspection by other processes of the uid.
pub(super) fn confine(target: Identity) -> Result<Dropped, ConfineError> {
    let dropped = geteuid().is_root();
    if dropped {
        become_user(target)?;
    }
    verify_no_capabilities()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|error| ConfineError::step("setrlimit(RLIMIT_CORE)", error))?;
    // After the change of uid, which sets it back (prctl(2), PR_SET_DUMPABLE).
    prctl::set_dumpable(false).map_err(|error| ConfineError::step("prctl(PR_SET_DUMPABLE)", error))?;
    let identity = Identity { uid: geteuid().as_raw(), gid: getegid().as_raw() };
    Ok(Dropped { identity, dropped })
}

/// The kernel refused a step, or granted what it must not.
#[derive(Debug, Error)]
pub(crate) enum ConfineError {
    /// A system call failed.
    #[error("{operation}: {error}")]
    Step {
        /// The system call and its argument.
        operation: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// A capability is left.
    #[error("capabilities are left after they were given up: {left:?}")]
    CapabilitiesLeft {
        /// Those of the permitted set.
        left: CapabilitySet,
    },
    /// Root can be regained, or the identity is not the one asked for.
    #[error("after the change to uid {uid}, gid {gid}: {fault}")]
    NotDropped {
        /// The uid that was asked for.
        uid: u32,
        /// The gid that was asked for.
        gid: u32,
        /// What is wrong.
        fault: &'static str,
    },
}

impl ConfineError {
    fn step(operation: &'static str, error: Errno) -> Self {
        Self::Step { operation, error: error.into() }
    }
}

fn drop_capabilities() -> Result<(), ConfineError> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).map_err(|error| ConfineError::Step { operation: "capset", error: error.into() })
}

fn verify_no_capabilities() -> Result<(), ConfineError> {
    let sets = capabilities(None).map_err(|error| ConfineError::Step { operation: "capget", error: error.into() })?;
    // Effective and ambient capabilities are subsets of the permitted ones (capabilities(7)).
    if sets.permitted.is_empty() { Ok(()) } else { Err(ConfineError::CapabilitiesLeft { left: sets.permitted }) }
}

/// Changing all three uids from root clears the permitted, effective and ambient capabilities (capabilities(7)).
fn become_user(target: Identity) -> Result<(), ConfineError> {
    let (uid, gid) = (Uid::from_raw(target.uid), Gid::from_raw(target.gid));
    setgroups(&[]).map_err(|error| ConfineError::step("setgroups", error))?;
    setresgid(gid, gid, gid).map_err(|error| ConfineError::step("setresgid", error))?;
    setresuid(uid, uid, uid).map_err(|error| ConfineError::step("setresuid", error))?;
    verify(target).map_err(|fault| ConfineError::NotDropped { uid: target.uid, gid: target.gid, fault })
}

fn verify(target: Identity) -> Result<(), &'static str> {
    let (uid, gid) = (Uid::from_raw(target.uid), Gid::from_raw(target.gid));
    let uids = getresuid().map_err(|_| "getresuid failed")?;
    if [uids.real, uids.effective, uids.saved] != [uid; 3] {
        return Err("the uid is another");
    }
    let gids = getresgid().map_err(|_| "getresgid failed")?;
    if [gids.real, gids.effective, gids.saved] != [gid; 3] {
        return Err("the gid is another");
    }
    if !getgroups().map_err(|_| "getgroups failed")?.is_empty() {
        return Err("supplementary groups are left");
    }
    let root = Uid::from_raw(0);
    if !uid.is_root() && setresuid(root, root, root).is_ok() {
        return Err("root can be regained");
    }
    Ok(())
}
