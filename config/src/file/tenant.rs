//! Tenants as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{BackendTlsFile, ClientsFile, SandboxPolicyFile, TcpFile, TlsFile};
use crate::backend_address::BackendAddress;
use crate::byte_size::ByteSize;
use crate::duration::Span;
use crate::field::Field;
use crate::hostname::HostnamePattern;
use crate::name::Name;
use crate::text::Text;

/// One tenant of the port.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Tenant")]
pub(crate) struct TenantFile {
    /// Unique among the tenants.
    pub(crate) name: Field<Text<Name>>,
    /// The server names that it claims; `*.example.com` stands for exactly one label. No two tenants share one.
    /// May be empty only if a listener's `onNoServerName` or `onUnmatched` names this tenant.
    #[serde(default)]
    pub(crate) hostnames: Field<Vec<Field<Text<HostnamePattern>>>>,
    /// Where its TLS ends.
    pub(crate) mode: Field<ModeFile>,
    /// How its TLS is terminated. Required for `mode: Terminate`, and only for it.
    #[serde(default)]
    pub(crate) tls: Field<TlsFile>,
    /// Where its connections go.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) backends: Field<Vec<Field<BackendFile>>>,
    /// How a backend is chosen.
    #[serde(default)]
    #[schemars(extend("default" = "LeastConnections"))]
    pub(crate) balance: Field<BalanceFile>,
    /// How backends are probed. Default: not at all; a backend that fails is then asked again by each connection whose
    /// turn is its.
    #[serde(default)]
    pub(crate) health_check: Field<HealthCheckFile>,
    /// How often its backends are asked for their certificates, whose ends become metrics and warnings. Default: never.
    /// Only for `mode: Passthrough`; each address of a backend gets a TLS handshake for the first exact hostname.
    #[serde(default)]
    pub(crate) certificate_probe: Field<Text<Span>>,
    /// Limit of connecting, over all backends that are tried for one connection.
    #[serde(default)]
    #[schemars(extend("default" = CONNECT_TIMEOUT))]
    pub(crate) connect_timeout: Field<Text<Span>>,
    /// A connection without a byte either way for this long is ended.
    #[serde(default)]
    #[schemars(extend("default" = IDLE_TIMEOUT))]
    pub(crate) idle_timeout: Field<Text<Span>>,
    /// What the kernel does about peers that have gone silent.
    #[serde(default)]
    pub(crate) tcp: Field<TcpFile>,
    /// Which source address its backends see.
    #[serde(default)]
    #[schemars(extend("default" = "Router"))]
    pub(crate) client_address: Field<ClientAddressFile>,
    /// The PROXY header that its backends get. Default: none.
    #[serde(default)]
    pub(crate) proxy_protocol: Field<OutboundProxyFile>,
    /// TLS to its backends. Default: none. Only for `mode: Terminate`.
    #[serde(default)]
    pub(crate) backend_tls: Field<BackendTlsFile>,
    /// Who may connect. Default: everybody.
    #[serde(default)]
    pub(crate) clients: Field<ClientsFile>,
    /// Bounds of what it may use. Default: none.
    #[serde(default)]
    pub(crate) limits: Field<LimitsFile>,
    /// What its terminator runs as. Only for `mode: Terminate`.
    #[serde(default)]
    pub(crate) sandbox: Field<TenantSandboxFile>,
    /// When its terminator is started. Only for `mode: Terminate`.
    #[serde(default)]
    #[schemars(extend("default" = "Always"))]
    pub(crate) startup: Field<StartupFile>,
    /// How long a terminator that was started by a connection stays without one. Only for `startup: OnDemand`.
    #[serde(default)]
    #[schemars(extend("default" = IDLE_STOP))]
    pub(crate) idle_stop: Field<Text<Span>>,
    /// How long its established connections may go on after SIGTERM.
    #[serde(default)]
    #[schemars(extend("default" = DRAIN_TIMEOUT))]
    pub(crate) drain_timeout: Field<Text<Span>>,
}

/// Where a tenant's TLS ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "Mode")]
pub(crate) enum ModeFile {
    /// At the backend: nothing on the way can read it.
    Passthrough,
    /// In the tenant's own terminator.
    Terminate,
}

/// Where connections go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Backend")]
pub(crate) struct BackendFile {
    /// An IP address and port; or a name and port: all addresses of the name are used, and asked for again by their TTL.
    pub(crate) address: Field<Text<BackendAddress>>,
    /// Share of the connections, relative to the other backends; 0 gets none. Each address of a name has this weight.
    #[serde(default)]
    #[schemars(range(max = 256), extend("default" = 1))]
    pub(crate) weight: Field<u32>,
}

/// Which source address backends see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "ClientAddress")]
pub(crate) enum ClientAddressFile {
    /// One of the router's host.
    Router,
    /// The client's, where the backends' way back to it leads through the router's host. Cut-through is not used then.
    Transparent,
}

/// How a backend is chosen.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Balance")]
pub(crate) enum BalanceFile {
    /// The one with the fewest connections for its weight.
    LeastConnections,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The same for the same client address; a backend that goes moves only its own clients.
    SourceHash,
}

/// How backends are probed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "HealthCheck")]
pub(crate) struct HealthCheckFile {
    /// Time between probes.
    #[serde(default)]
    #[schemars(extend("default" = HEALTH_INTERVAL))]
    pub(crate) interval: Field<Text<Span>>,
    /// Limit of one probe.
    #[serde(default)]
    #[schemars(extend("default" = HEALTH_TIMEOUT))]
    pub(crate) timeout: Field<Text<Span>>,
    /// Failures in a row, of probes and of connections, until a backend gets no more connections.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000), extend("default" = UNHEALTHY_AFTER))]
    pub(crate) unhealthy_after: Field<u32>,
    /// Good probes in a row until it gets some again.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000), extend("default" = HEALTHY_AFTER))]
    pub(crate) healthy_after: Field<u32>,
}

/// The PROXY header that backends get.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "OutboundProxyProtocol")]
pub(crate) struct OutboundProxyFile {
    /// The version of the protocol.
    pub(crate) version: Field<ProxyVersionFile>,
    /// What a v2 header tells beyond the addresses. Only authority, uniqueId and crc32c under `mode: Passthrough`.
    #[serde(default)]
    pub(crate) tlvs: Field<Vec<Field<ProxyTlvFile>>>,
}

/// The version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ProxyVersion")]
pub(crate) enum ProxyVersionFile {
    /// A line of text.
    V1,
    /// Binary, with TLVs.
    V2,
}

/// What a PROXY v2 header can tell.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ProxyTlv")]
pub(crate) enum ProxyTlvFile {
    /// The server name (PP2_TYPE_AUTHORITY).
    Authority,
    /// The negotiated ALPN protocol (PP2_TYPE_ALPN).
    Alpn,
    /// TLS version, cipher and the certificate's common name (PP2_TYPE_SSL).
    Ssl,
    /// The client's certificate as DER, in a TLV of the custom type 0xE0.
    ClientCertificate,
    /// The connection's number in the access log (PP2_TYPE_UNIQUE_ID).
    UniqueId,
    /// A checksum of the header (PP2_TYPE_CRC32C).
    Crc32c,
    /// The client's groups.
    Groups,
}

/// Bounds of what a tenant may use.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(crate) struct LimitsFile {
    /// Connections at one time.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(crate) max_connections: Field<u32>,
    /// New connections per second; as many at once.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(crate) connection_rate: Field<u32>,
    /// TLS handshakes per second; as many at once. Only for `mode: Terminate`.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(crate) handshake_rate: Field<u32>,
}

/// What a terminator runs as.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "TenantSandbox")]
pub(crate) struct TenantSandboxFile {
    /// Its uid, which no other tenant has. Default: one from `uidRange`, always the same for the same name.
    #[serde(default)]
    #[schemars(range(min = 1, max = MAX_ID))]
    pub(crate) uid: Field<u32>,
    /// Its gid. Default: the same number as its uid.
    #[serde(default)]
    #[schemars(range(min = 1, max = MAX_ID))]
    pub(crate) gid: Field<u32>,
    /// Overrides the policy of the whole file.
    #[serde(default)]
    pub(crate) policy: Field<SandboxPolicyFile>,
    /// The memory that it may use, such as 128MiB, where the host has a cgroup hierarchy that can be written to. Default:
    /// no bound.
    #[serde(default)]
    pub(crate) memory_max: Field<Text<ByteSize>>,
}

/// When a terminator is started.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Startup")]
pub(crate) enum StartupFile {
    /// With the router.
    Always,
    /// By a connection, which waits for it; stopped after `idleStop` without one.
    OnDemand,
}

pub(crate) const CONNECT_TIMEOUT: Text<Span> = Text(Span::seconds(3));
pub(crate) const HEALTH_INTERVAL: Text<Span> = Text(Span::seconds(5));
pub(crate) const HEALTH_TIMEOUT: Text<Span> = Text(Span::seconds(2));
pub(crate) const UNHEALTHY_AFTER: u32 = 3;
pub(crate) const HEALTHY_AFTER: u32 = 2;
pub(crate) const IDLE_TIMEOUT: Text<Span> = Text(Span::minutes(10));
pub(crate) const IDLE_STOP: Text<Span> = Text(Span::minutes(10));
pub(crate) const DRAIN_TIMEOUT: Text<Span> = Text(Span::seconds(30));
/// setuid(2) takes 4,294,967,295 for "no change".
pub(crate) const MAX_ID: u32 = u32::MAX - 1;
