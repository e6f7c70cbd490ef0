//! The configuration of sni-router: YAML in, types that cannot be wrong out, and the JSON Schema of the file.
//! Never opens what the configuration names.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod address;
mod backend_address;
mod byte_size;
mod client_rule;
mod decode;
mod difference;
mod duration;
mod endpoint;
mod error;
mod field;
mod file;
mod hostname;
mod load;
mod model;
mod name;
mod part;
mod probed;
mod reference;
mod report;
mod reread;
mod resolve;
mod schema;
mod steer;
mod suggest;
mod tcp;
mod text;
mod uid;
mod yaml;

pub use backend_address::{BackendAddress, BackendName};
pub use client_rule::{Sha256, UriPattern};
pub use difference::{TerminatorSettings, refused_fields};
pub use endpoint::Endpoint;
pub use error::{ConfigError, ConfigErrors, LoadError, Position};
pub use hostname::{Hostname, HostnameError, HostnamePattern, normalize_into};
pub use model::*;
pub use part::{Part, Parts};
pub use probed::{ProbedTenant, ProberSettings};
pub use reference::reference;
pub use schema::json_schema;
pub use tcp::{Keepalive, TcpSettings};

/// The router's uid and gid when it is started as root and `user` is not set: just below the default `uidRange`.
pub const DEFAULT_ROUTER_UID: u32 = 61183;
