//! The validated configuration: what every other crate sees. Values of these types cannot be wrong, so nothing
//! after the parser checks them again. Never reads a file, never touches serde.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::client_rule::{Sha256, UriPattern};
use crate::endpoint::Endpoint;
use crate::hostname::{Hostname, HostnamePattern};
use crate::tcp::TcpSettings;

/// A whole configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Folder of the hand-off and admin sockets.
    pub runtime_dir: PathBuf,
    /// Folder of what outlives a restart.
    pub state_dir: PathBuf,
    /// Worker threads of the router; `None` means one per core.
    pub workers: Option<NonZeroUsize>,
    /// What the router drops to when it is started as root; `None` means [`DEFAULT_ROUTER_UID`](crate::DEFAULT_ROUTER_UID).
    pub user: Option<User>,
    /// Where tenants without a `sandbox.uid` get theirs from.
    pub uid_range: UidRange,
    /// How passthrough bytes move.
    pub data_path: DataPath,
    /// For tenants that say nothing else themselves.
    pub sandbox_policy: SandboxPolicy,
    /// Address of the read-only HTTP endpoint; `None` means off.
    pub admin: Option<SocketAddr>,
    /// One JSON line per connection; `None` means off.
    pub access_log: Option<AccessLogPath>,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// At least one; names and hostnames are unique. Shared, because those that a reload leaves as they are outlive the
    /// rest of the configuration.
    pub tenants: Vec<Arc<Tenant>>,
}

impl Config {
    /// The tenant of this name.
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().map(Arc::as_ref).find(|tenant| tenant.name == name)
    }

    /// The uid of a tenant's terminator when it is started as root; `None` unless a tenant of mode Terminate has
    /// this name. It depends on the names of the tenants and on what the file says about uids, and on nothing else.
    pub fn tenant_uid(&self, name: &str) -> Option<u32> {
        self.tenant_identity(name).map(|identity| identity.uid)
    }

    /// The gid that belongs to [`tenant_uid`](Self::tenant_uid).
    pub fn tenant_gid(&self, name: &str) -> Option<u32> {
        self.tenant_identity(name).map(|identity| identity.gid)
    }

    /// The socket over which the router hands connections to a tenant's terminator. It fits a Unix address.
    pub fn handoff_socket(&self, name: &str) -> PathBuf {
        handoff_socket(&self.runtime_dir, name)
    }

    /// The folder of a tenant's generated CA and certificate, which its uid alone can enter.
    pub fn generated_dir(&self, name: &str) -> PathBuf {
        self.state_dir.join("generated").join(name)
    }

    /// The folder in which a tenant with a generated CA tells everybody what to trust, in the file `ca.crt`.
    pub fn advertised_dir(&self, name: &str) -> PathBuf {
        self.runtime_dir.join("ca").join(name)
    }

    fn tenant_identity(&self, name: &str) -> Option<Identity> {
        match &self.tenant(name)?.mode {
            Mode::Passthrough => None,
            Mode::Terminate(terminate) => Some(terminate.identity),
        }
    }
}

/// The path of [`Config::handoff_socket`] below a runtime folder.
pub(crate) fn handoff_socket(runtime_dir: &Path, tenant: &str) -> PathBuf {
    runtime_dir.join("terminators").join(tenant).join("handoff.sock")
}

/// A user by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A name of the user database.
    Name(String),
    /// A numeric uid; the gid is the same number.
    Id(u32),
}

/// An inclusive range of uids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UidRange {
    /// The lowest uid.
    pub first: u32,
    /// The highest uid; not below `first`.
    pub last: u32,
}

/// How the bytes of passthrough connections move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPath {
    /// The best rung of the ladder for each connection; [`CutThrough`](Self::CutThrough) where a self-test shows that
    /// the kernel does it right.
    Auto,
    /// The kernel translates packets between the two connections where it can; splice(2) or copying where it cannot.
    CutThrough,
    /// splice(2) from the first byte.
    Splice,
    /// Read and write through the worker's buffer, always.
    Copy,
}

/// Where access log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogPath {
    /// The standard output (`-`).
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

/// One address that accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unique among the listeners.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What the kernel steers here without being bound. No two listeners have the same ports of the same prefix; of
    /// two prefixes that cover an address, the longer one has it.
    pub steer: Vec<Steer>,
    /// Bounds of the peek step.
    pub client_hello: ClientHelloLimits,
    /// What a hello without a server name gets.
    pub on_no_server_name: Fallback,
    /// What a name that no tenant claims gets.
    pub on_unmatched: Fallback,
    /// From whom the PROXY protocol is required; from all others it is refused.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Who may connect.
    pub clients: ClientFilter,
    /// Connections that the router itself holds for this listener at one time.
    pub max_connections: usize,
}

/// Destinations that belong to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steer {
    /// The addresses; IPv6 only when the listener's own address is IPv6.
    pub prefix: IpNet,
    /// Their ports.
    pub ports: PortRange,
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port; not 0.
    pub first: u16,
    /// The highest port; not below `first`.
    pub last: u16,
}

/// Bounds of the peek step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHelloLimits {
    /// From accept to the decision, hand-off included.
    pub timeout: Duration,
    /// Bytes on the wire, record headers included.
    pub max_bytes: usize,
}

/// What happens to connections that no hostname claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// `unrecognized_name` (RFC 6066 section 3), then close.
    Reject,
    /// The tenant at this index of [`Config::tenants`].
    Tenant(usize),
}

/// Source prefixes: a client must be in `allow` (empty: everybody) and not in `deny`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFilter {
    /// Prefixes that may connect; empty means all.
    pub allow: Vec<IpNet>,
    /// Prefixes that may not connect, whatever `allow` says.
    pub deny: Vec<IpNet>,
}

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
    /// Limit of the dial, over all backends that are tried for one connection.
    pub connect_timeout: Duration,
    /// Bounds of what it may use.
    pub limits: TenantLimits,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendTarget {
    /// Where it listens.
    pub address: SocketAddr,
    /// Share of the connections, relative to the other backends; 0 gets none.
    pub weight: u16,
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

/// All that a terminator needs to know beyond its tenant's routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminate {
    /// Files; at least one, unless `generate`.
    pub certificates: Vec<CertificateSource>,
    /// Whether the terminator makes a CA and a certificate of its own while none of these files is there.
    pub generate: bool,
    /// What clients are told to trust, where the certificates come from files; `None` means the `ca.crt` beside them.
    pub ca_bundle: Option<PathBuf>,
    /// What certificates have to cover besides the tenant's hostnames.
    pub external_endpoints: Vec<Endpoint>,
    /// The lowest protocol version that is negotiated.
    pub min_version: TlsVersion,
    /// ALPN protocols in order of preference; empty means that ALPN is not negotiated.
    pub alpn: Vec<String>,
    /// Whether clients show certificates.
    pub client_validation: ClientValidation,
    /// TLS to the backends; `None` means that they get plaintext. Boxed, because few tenants have it.
    pub backend_tls: Option<Box<BackendTls>>,
    /// What the file says about how the terminator is confined.
    pub sandbox: Sandbox,
    /// When the terminator is started, and stopped.
    pub startup: Startup,
    /// The identity that the terminator runs under when it is started as root: from `sandbox`, else from the uid range.
    pub identity: Identity,
}

/// Where a certificate and its key come from. Paths only: the files are opened by the terminator alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// A folder in the layout of a kubernetes.io/tls Secret: `tls.crt`, `tls.key`.
    SecretDir(PathBuf),
    /// A PEM chain and its PEM key.
    Files {
        /// Leaf first, then its issuers.
        certificate: PathBuf,
        /// The leaf's private key.
        key: PathBuf,
    },
}

/// TLS protocol versions that exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// Client certificates: who is asked for one, and whom they must come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientValidation {
    /// None is asked for.
    None,
    /// One is asked for; one that is shown must be valid.
    Optional(ClientTrust),
    /// No connection without a valid one.
    Required(ClientTrust),
}

impl ClientValidation {
    /// What is trusted, where clients are asked for a certificate.
    pub fn trust(&self) -> Option<&ClientTrust> {
        match self {
            Self::None => None,
            Self::Optional(trust) | Self::Required(trust) => Some(trust),
        }
    }
}

/// Which client certificates are valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTrust {
    /// PEM bundles of the CAs; at least one.
    pub ca: Vec<PathBuf>,
    /// PEM files of revocation lists; where there is one, each CA of a chain needs one.
    pub crl: Vec<PathBuf>,
    /// How many intermediates may stand between a client's certificate and a CA; `None` means no bound of ours.
    pub max_intermediates: Option<u8>,
    /// Which of these CAs' certificates are let in; empty means every one.
    pub allow: Vec<ClientRule>,
}

/// Some client certificates: those that have everything that the rule names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRule {
    /// One of the subject alternative names is such a URI.
    pub uri: Option<UriPattern>,
    /// One of the subject alternative names is this DNS name, or is covered by this wildcard.
    pub dns: Option<HostnamePattern>,
    /// The subject's common name.
    pub common_name: Option<String>,
    /// One of the subject's organizational units.
    pub organizational_unit: Option<String>,
    /// Of the DER certificate.
    pub sha256: Option<Sha256>,
    /// The groups of who is let in by this rule.
    pub groups: Vec<String>,
}

/// TLS to backends. At least one of `ca` and `pins` is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTls {
    /// What a backend is asked for and what its certificate must carry; `None` means its IP address or, with pins alone,
    /// nothing.
    pub server_name: Option<Hostname>,
    /// PEM bundles of the CAs that its certificate must come from; empty means that the pins alone decide.
    pub ca: Vec<PathBuf>,
    /// Of its certificate or of its public key; empty means that the CAs alone decide.
    pub pins: Vec<Sha256>,
    /// What is shown to a backend that asks for a certificate.
    pub client_certificate: Option<CertificateSource>,
    /// The lowest protocol version that is negotiated.
    pub min_version: TlsVersion,
    /// Whether the backend is offered what the client agreed upon, and nothing else; otherwise it is offered nothing.
    pub pass_alpn: bool,
}

/// The identity that a terminator runs under; no other tenant has its uid, nor has the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Never 0.
    pub uid: u32,
    /// Never 0.
    pub gid: u32,
}

/// What happens where the kernel lacks a means of confinement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SandboxPolicy {
    /// Start-up says so and goes on.
    #[default]
    BestEffort,
    /// The terminator does not start.
    Required,
}

/// When a terminator is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Startup {
    /// With the router.
    #[default]
    Always,
    /// By a connection.
    OnDemand {
        /// It stops after so long without one.
        idle_stop: Duration,
    },
}

/// What the file says about how a terminator is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// `None` means one from the uid range.
    pub uid: Option<u32>,
    /// `None` means the same number as the uid.
    pub gid: Option<u32>,
    /// `None` means [`Config::sandbox_policy`].
    pub policy: Option<SandboxPolicy>,
    /// The memory that it may use, in bytes; `None` means no bound.
    pub memory_max: Option<u64>,
}
