//! Who the terminator becomes, and whose connections it accepts. Looks users up, changes nothing.

use config::{DEFAULT_ROUTER_UID, User};
use thiserror::Error;

/// A uid and its gid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// How the terminator came to life, as far as it says something about the router's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The uid it was started under.
    pub own_uid: u32,
    /// Whether the supervisor of `sni-router run` started it.
    pub supervised: bool,
}

impl Start {
    /// The only uid whose hand-offs are accepted.
    ///
    /// Started as root, so is the router, which then drops to `user`. A supervisor that is no root cannot give the
    /// router another uid than its own. Started alone and without root (Kubernetes), the router may well run under
    /// another uid: the one in `user`.
    pub(crate) fn router_uid(self, user: Option<&User>) -> Result<u32, UnknownUser> {
        match user {
            Some(user) if self.own_uid == 0 || !self.supervised => uid_of(user),
            None if self.own_uid == 0 => Ok(DEFAULT_ROUTER_UID),
            _ => Ok(self.own_uid),
        }
    }
}

/// `user` names somebody whom this host does not know.
#[derive(Debug, Error)]
#[error("user: {0:?} is not in the user database of this host; a numeric uid needs no entry there")]
pub(crate) struct UnknownUser(String);

fn uid_of(user: &User) -> Result<u32, UnknownUser> {
    match user {
        User::Id(uid) => Ok(*uid),
        User::Name(name) => match nix::unistd::User::from_name(name) {
            Ok(Some(found)) => Ok(found.uid.as_raw()),
            Ok(None) | Err(_) => Err(UnknownUser(name.clone())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router_uid(own_uid: u32, supervised: bool, user: Option<User>) -> u32 {
        Start { own_uid, supervised }.router_uid(user.as_ref()).unwrap()
    }

    #[test]
    fn started_as_root_the_routers_uid_is_the_configured_one() {
        for supervised in [false, true] {
            assert_eq!(router_uid(0, supervised, None), DEFAULT_ROUTER_UID);
            assert_eq!(router_uid(0, supervised, Some(User::Id(1234))), 1234);
            assert_eq!(router_uid(0, supervised, Some(User::Name("root".into()))), 0);
        }
    }

    #[test]
    fn without_root_a_supervised_router_shares_the_uid_and_a_lone_one_may_differ() {
        assert_eq!(router_uid(1000, true, None), 1000);
        assert_eq!(router_uid(1000, true, Some(User::Id(1234))), 1000);
        assert_eq!(router_uid(1000, false, None), 1000);
        assert_eq!(router_uid(1000, false, Some(User::Id(1234))), 1234);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let user = User::Name("nobody-has-this-name".into());
        assert!(Start { own_uid: 0, supervised: false }.router_uid(Some(&user)).is_err());
    }
}
