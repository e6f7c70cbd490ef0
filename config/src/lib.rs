//! The configuration of sni-router: YAML in, types that cannot be wrong out, and the JSON Schema of the file.
//! Never opens what the configuration names.

mod hostname;
mod model;

pub use hostname::{Hostname, HostnamePattern};
pub use model::*;

/// The router's uid and gid when it is started as root and `user` is not set: just below the default `uidRange`.
pub const DEFAULT_ROUTER_UID: u32 = 61183;
