//! The router's drop to its own uid: once, after its sockets exist and before a byte of a client is read.

use nix::unistd::{Uid, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities};
use tracing::info;

use crate::identity::Identity;

/// A drop that failed half-way or could be undone; the process must not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum DropError {
    /// A system call of the drop failed.
    #[error("drop privileges: {call}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// Its errno.
        source: nix::Error,
    },
    /// uid 0 could be taken back.
    #[error("drop privileges: uid 0 can be regained")]
    Reversible,
}

/// Becomes `identity` for good when the process is root; forbids new privileges in any case. With the last uid 0 gone
/// the kernel clears every capability set (capabilities(7), "Effect of user ID changes on capabilities") but for those
/// to `keep`.
pub(super) fn drop_privileges(identity: Identity, keep: CapabilitySet) -> Result<(), DropError> {
    let failed = |call| move |source| DropError::Call { call, source };
    nix::sys::prctl::set_no_new_privs().map_err(failed("PR_SET_NO_NEW_PRIVS"))?;
    if !Uid::effective().is_root() {
        // Such as CAP_NET_BIND_SERVICE, from the file or from systemd: its work is done.
        let had = capabilities(None).map_err(errno("capget"))?.permitted;
        keep_only(had & keep).map_err(errno("capset"))?;
        info!(
            uid = identity.uid.as_raw(),
            "not started as root: the router keeps its uid, no tenant gets one of its own"
        );
        return Ok(());
    }
    if !keep.is_empty() {
        // Otherwise the change of the uid would clear the permitted set, too.
        set_keep_capabilities(true).map_err(errno("PR_SET_KEEPCAPS"))?;
    }
    setgroups(&[]).map_err(failed("setgroups"))?;
    setresgid(identity.gid, identity.gid, identity.gid).map_err(failed("setresgid"))?;
    setresuid(identity.uid, identity.uid, identity.uid).map_err(failed("setresuid"))?;
    if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        return Err(DropError::Reversible);
    }
    if !keep.is_empty() {
        set_keep_capabilities(false).map_err(errno("PR_SET_KEEPCAPS"))?;
        keep_only(keep).map_err(errno("capset"))?;
    }
    info!(uid = identity.uid.as_raw(), gid = identity.gid.as_raw(), kept = ?keep, "privileges dropped");
    Ok(())
}

/// Of this thread and those that it starts. Other ones lose all with the uid, because they do not keep any.
fn keep_only(kept: CapabilitySet) -> rustix::io::Result<()> {
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })
}

fn errno(call: &'static str) -> impl Fn(rustix::io::Errno) -> DropError {
    move |error| DropError::Call { call, source: nix::Error::from_raw(error.raw_os_error()) }
}
