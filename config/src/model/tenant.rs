//! A tenant, as far as router and terminator share it: names, backends, bounds.

use std::time::Duration;

use super::{ClientFilter, Terminate};
use crate::backend_address::BackendAddress;
use crate::hostname::HostnamePattern;
use crate::tcp::TcpSettings;

/// One tenant of the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Unique; 1 to 63 characters of `a-z`, `0-9` and `-`, as a DNS label, because it becomes a folder's name.
    pub name: String,
    /// At least one, unless a listener's fallback names this tenant.
    pub hostnames: Vec<HostnamePattern>,
    /// Passthrough, or terminate with all that it needs.
    pub mode: Mode,
    /// Where the connections go; at least one has a weight.
    pub backends: Vec<BackendTarget>,
    /// Whose turn it is.
    pub balance: Balance,
    /// How backends are probed; `None` means not at all.
    pub health_check: Option<HealthCheck>,
    /// How often backends are asked for their certificates; `None` means never, as always under Terminate.
    pub certificate_probe: Option<Duration>,
    /// Limit of the dial, over all backends that are tried for one connection.
    pub connect_timeout: Duration,
    /// Bounds of what it may use.
    pub limits: TenantLimits,
    /// Which source address the backends see; [`ClientAddress::Router`] under Terminate.
    pub client_address: ClientAddress,
    /// The PROXY header that the backends get; `None` means none.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// A connection without a byte either way for this long is ended.
    pub idle_timeout: Duration,
    /// How long established connections may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// For the sockets to clients and backends.
    pub tcp: TcpSettings,
    /// Who may connect.
    pub clients: ClientFilter,
}

/// Where a tenant's connections go, or some of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTarget {
    /// Where it listens.
    pub address: BackendAddress,
    /// Share of the connections, relative to the other backends; 0 gets none. Each address of a name has it.
    pub weight: u16,
}

/// Which source address backends see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// One of this host.
    #[default]
    Router,
    /// The client's, with another port.
    Transparent,
}

/// How a backend is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The one with the fewest connections for its weight; of several such, one after the other.
    LeastConnections,
    /// One after the other, each as often as its weight says.
    RoundRobin,
    /// Any, each as probably as its weight says.
    Random,
    /// The same for the same client address, for as long as that backend is there: one that goes moves only its own
    /// clients, and one that comes takes only its share.
    SourceHash,
}

/// How backends are probed, and what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Between the probes of one backend.
    pub interval: Duration,
    /// Limit of one probe.
    pub timeout: Duration,
    /// Failures in a row, of probes and of connections, until a backend gets no more connections; at least 1.
    pub unhealthy_after: u32,
    /// Good probes in a row until it gets some again; at least 1.
    pub healthy_after: u32,
}

/// Bounds of what a tenant may use; `None` means no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Connections at one time.
    pub max_connections: Option<u32>,
    /// New connections per second; as many at once.
    pub connection_rate: Option<u32>,
    /// TLS handshakes per second; as many at once. `None` under Passthrough.
    pub handshake_rate: Option<u32>,
}

/// The PROXY header that backends get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// The version of the protocol.
    pub version: ProxyVersion,
    /// What a version 2 header tells beyond the addresses; empty under version 1.
    pub tlvs: Vec<ProxyTlv>,
}

/// The version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary, with TLVs.
    V2,
}

/// What a PROXY v2 header can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyTlv {
    /// The server name (PP2_TYPE_AUTHORITY).
    Authority,
    /// The negotiated ALPN protocol (PP2_TYPE_ALPN). Mode Terminate only, as the next two.
    Alpn,
    /// TLS version, cipher and the certificate's common name (PP2_TYPE_SSL).
    Ssl,
    /// The client's certificate as DER, in a custom type.
    ClientCertificate,
    /// The client's groups with commas between them, in a custom type. Mode Terminate only.
    Groups,
    /// The connection's number in the access log (PP2_TYPE_UNIQUE_ID).
    UniqueId,
    /// A checksum of the header (PP2_TYPE_CRC32C).
    Crc32c,
}

/// What happens to a tenant's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It stays end to end.
    Passthrough,
    /// It ends in the tenant's terminator.
    Terminate(Box<Terminate>),
}
