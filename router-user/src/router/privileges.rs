//! The router's drop to its own uid: once, after its sockets exist and before a byte of a client is read.

use nix::unistd::{Uid, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
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
/// the kernel clears every capability set (capabilities(7), "Effect of user ID changes on capabilities").
pub(super) fn drop_privileges(identity: Identity) -> Result<(), DropError> {
    let failed = |call| move |source| DropError::Call { call, source };
    nix::sys::prctl::set_no_new_privs().map_err(failed("PR_SET_NO_NEW_PRIVS"))?;
    if !Uid::effective().is_root() {
        // Such as CAP_NET_BIND_SERVICE, from the file or from systemd: its work is done.
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        set_capabilities(None, none).map_err(|error| failed("capset")(nix::Error::from_raw(error.raw_os_error())))?;
        info!(
            uid = identity.uid.as_raw(),
            "not started as root: the router keeps its uid, no tenant gets one of its own"
        );
        return Ok(());
    }
    setgroups(&[]).map_err(failed("setgroups"))?;
    setresgid(identity.gid, identity.gid, identity.gid).map_err(failed("setresgid"))?;
    setresuid(identity.uid, identity.uid, identity.uid).map_err(failed("setresuid"))?;
    if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        return Err(DropError::Reversible);
    }
    info!(uid = identity.uid.as_raw(), gid = identity.gid.as_raw(), "privileges dropped");
    Ok(())
}
