//! The sockets of a tenant's connections, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::duration::Span;
use crate::field::Field;
use crate::text::Text;

/// What the kernel does about peers that have gone silent, clients and backends alike. Connections that the kernel carries
/// (cut-through) have no sockets; there the two ends see to it themselves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Tcp")]
pub(crate) struct TcpFile {
    /// Probes of a connection without traffic. Default: none.
    #[serde(default)]
    pub(crate) keepalive: Field<KeepaliveFile>,
    /// How long sent bytes may stay unacknowledged until the connection is given up (TCP_USER_TIMEOUT, RFC 5482).
    /// Default: the kernel's patience, about a quarter of an hour.
    #[serde(default)]
    pub(crate) user_timeout: Field<Text<Span>>,
}

/// Probes of a connection without traffic.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Keepalive")]
pub(crate) struct KeepaliveFile {
    /// Silence before the first probe, in whole seconds.
    #[serde(default)]
    #[schemars(extend("default" = KEEPALIVE_AFTER))]
    pub(crate) after: Field<Text<Span>>,
    /// Time between probes, in whole seconds.
    #[serde(default)]
    #[schemars(extend("default" = KEEPALIVE_INTERVAL))]
    pub(crate) interval: Field<Text<Span>>,
    /// Probes without an answer until the connection is given up.
    #[serde(default)]
    #[schemars(range(min = 1, max = 127), extend("default" = KEEPALIVE_PROBES))]
    pub(crate) probes: Field<u32>,
}

pub(crate) const KEEPALIVE_AFTER: Text<Span> = Text(Span::minutes(2));
pub(crate) const KEEPALIVE_INTERVAL: Text<Span> = Text(Span::seconds(15));
pub(crate) const KEEPALIVE_PROBES: u32 = 4;
