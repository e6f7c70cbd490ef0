//! Listeners as they are written.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::ListenAddress;
use crate::duration::Span;
use crate::field::Field;
use crate::model::Steer;
use crate::name::Name;
use crate::text::Text;

/// One address that accepts connections.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Listener")]
pub(crate) struct ListenerFile {
    /// Unique among the listeners.
    pub(crate) name: Field<Text<Name>>,
    /// Where it listens.
    pub(crate) address: Field<Text<ListenAddress>>,
    /// Address prefixes with ports that the kernel steers here without their being bound. They must be local to the
    /// host: `ip route add local PREFIX dev lo`.
    #[serde(default)]
    pub(crate) steer: Field<Vec<Field<Text<Steer>>>>,
    /// Bounds of reading the ClientHello.
    #[serde(default)]
    pub(crate) client_hello: Field<ClientHelloFile>,
    /// What a ClientHello without a server name gets: `Reject` or a tenant's name.
    #[serde(default)]
    #[schemars(extend("default" = REJECT))]
    pub(crate) on_no_server_name: Field<String>,
    /// What a server name that no tenant claims gets: `Reject` or a tenant's name.
    #[serde(default)]
    #[schemars(extend("default" = REJECT))]
    pub(crate) on_unmatched: Field<String>,
    /// From whom the PROXY protocol is required; from all others it is refused.
    #[serde(default)]
    pub(crate) proxy_protocol: Field<InboundProxyFile>,
    /// Who may connect. Default: everybody.
    #[serde(default)]
    pub(crate) clients: Field<ClientsFile>,
    /// Connections that the router itself holds for this listener at one time.
    #[serde(default)]
    #[schemars(range(min = 1), extend("default" = MAX_CONNECTIONS))]
    pub(crate) max_connections: Field<u32>,
    /// Bounds of what one source may use. Default: none.
    #[serde(default)]
    pub(crate) per_source: Field<PerSourceFile>,
}

/// Bounds of what one source may use. It needs `maxConnections` or `connectionRate`, so that there is a bound.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "PerSource")]
pub(crate) struct PerSourceFile {
    /// Connections of one source that the router itself holds for this listener at one time.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(crate) max_connections: Field<u32>,
    /// New connections of one source per second; as many at once.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(crate) connection_rate: Field<u32>,
    /// Leading bits of an IPv4 address that make a source.
    #[serde(default)]
    #[schemars(range(min = 1, max = 32), extend("default" = IPV4_PREFIX))]
    pub(crate) ipv4_prefix: Field<u32>,
    /// Leading bits of an IPv6 address that make a source.
    #[serde(default)]
    #[schemars(range(min = 1, max = 128), extend("default" = IPV6_PREFIX))]
    pub(crate) ipv6_prefix: Field<u32>,
}

/// Bounds of reading the ClientHello.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "ClientHello")]
pub(crate) struct ClientHelloFile {
    /// From accept to the decision, hand-off included.
    #[serde(default)]
    #[schemars(extend("default" = HELLO_TIMEOUT))]
    pub(crate) timeout: Field<Text<Span>>,
    /// Bytes of all TLS records that hold it.
    #[serde(default)]
    #[schemars(range(min = MIN_HELLO_BYTES, max = MAX_HELLO_BYTES), extend("default" = HELLO_BYTES))]
    pub(crate) max_bytes: Field<u32>,
}

/// From whom the PROXY protocol is required.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "InboundProxyProtocol")]
pub(crate) struct InboundProxyFile {
    /// Prefixes of the senders.
    #[schemars(length(min = 1))]
    pub(crate) from: Field<Vec<Field<Text<IpNet>>>>,
}

/// Source prefixes. A client must be in `allow` (empty: everybody) and not in `deny`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Clients")]
pub(crate) struct ClientsFile {
    /// Prefixes that may connect. Default: all.
    #[serde(default)]
    pub(crate) allow: Field<Vec<Field<Text<IpNet>>>>,
    /// Prefixes that may not connect, whatever `allow` says.
    #[serde(default)]
    pub(crate) deny: Field<Vec<Field<Text<IpNet>>>>,
}

/// The fallback that is no tenant; no tenant can have this name, because names are lower case.
pub(crate) const REJECT: &str = "Reject";
pub(crate) const MAX_CONNECTIONS: u32 = 100_000;
pub(crate) const HELLO_TIMEOUT: Text<Span> = Text(Span::seconds(5));
pub(crate) const HELLO_BYTES: u32 = 65_536;
/// Less than a browser's hello of today makes no sense.
pub(crate) const MIN_HELLO_BYTES: u32 = 512;
/// OpenSSL stops at 131,396 bytes; the socket's receive buffer has to hold all of it while the router peeks.
pub(crate) const MAX_HELLO_BYTES: u32 = 262_144;
pub(crate) const IPV4_PREFIX: u32 = 32;
/// What one subscriber gets at least (RFC 6177 section 2), who can take any address in it.
pub(crate) const IPV6_PREFIX: u32 = 64;
