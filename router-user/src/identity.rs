//! Who the router becomes once it needs root no longer.

use config::{Config, DEFAULT_ROUTER_UID, Mode, Tenant, User};
use nix::unistd::{Gid, Uid};

/// A uid and its gid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: Uid,
    /// The group.
    pub gid: Gid,
}

/// `user` cannot be what the router drops to.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The user database has no such name.
    #[error("user: no user named {0:?} exists; create it (useradd --system {0}) or give a number")]
    Unknown(String),
    /// The name stands for uid 0.
    #[error("user: {0} is root; the router must not keep root's uid, give it a user of its own")]
    Root(String),
    /// A tenant's terminator has the same uid and would trust, and be readable by, the router.
    #[error("user: the router and the terminator of tenant {tenant} would share uid {uid}; give one of them another")]
    Shared {
        /// The tenant.
        tenant: String,
        /// The uid that both have.
        uid: u32,
    },
}

/// The router's identity after the drop: of the configuration when started as root, else the one it has.
pub fn router_identity(config: &Config) -> Result<Identity, IdentityError> {
    if !Uid::effective().is_root() {
        return Ok(Identity { uid: Uid::effective(), gid: Gid::effective() });
    }
    let identity = match &config.user {
        None => Identity { uid: Uid::from_raw(DEFAULT_ROUTER_UID), gid: Gid::from_raw(DEFAULT_ROUTER_UID) },
        Some(User::Id(id)) => Identity { uid: Uid::from_raw(*id), gid: Gid::from_raw(*id) },
        Some(User::Name(name)) => match nix::unistd::User::from_name(name) {
            Ok(Some(user)) if user.uid.is_root() => return Err(IdentityError::Root(name.clone())),
            Ok(Some(user)) => Identity { uid: user.uid, gid: user.gid },
            Ok(None) | Err(_) => return Err(IdentityError::Unknown(name.clone())),
        },
    };
    let shares = |tenant: &&Tenant| match &tenant.mode {
        Mode::Passthrough => false,
        Mode::Terminate(terminate) => terminate.identity.uid == identity.uid.as_raw(),
    };
    match config.tenants.iter().map(AsRef::as_ref).find(shares) {
        Some(tenant) => Err(IdentityError::Shared { tenant: tenant.name.clone(), uid: identity.uid.as_raw() }),
        None => Ok(identity),
    }
}
