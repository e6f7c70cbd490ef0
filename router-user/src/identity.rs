//! Who the router becomes once it needs root no longer.

use config::{Config, DEFAULT_ROUTER_UID, User};
use nix::unistd::{Gid, Uid};

/// A uid and its gid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: Uid,
    /// The group.
    pub gid: Gid,
}

/// `user` names nobody.
#[derive(Debug, thiserror::Error)]
#[error("user: no user named {name:?} exists; create it (useradd --system {name}) or give a number")]
pub struct UnknownUser {
    name: String,
}

/// The router's identity after the drop: of the configuration when started as root, else the one it has.
pub fn router_identity(config: &Config) -> Result<Identity, UnknownUser> {
    if !Uid::effective().is_root() {
        return Ok(Identity { uid: Uid::effective(), gid: Gid::effective() });
    }
    match &config.user {
        None => Ok(Identity { uid: Uid::from_raw(DEFAULT_ROUTER_UID), gid: Gid::from_raw(DEFAULT_ROUTER_UID) }),
        Some(User::Id(id)) => Ok(Identity { uid: Uid::from_raw(*id), gid: Gid::from_raw(*id) }),
        Some(User::Name(name)) => match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => Ok(Identity { uid: user.uid, gid: user.gid }),
            Ok(None) | Err(_) => Err(UnknownUser { name: name.clone() }),
        },
    }
}
