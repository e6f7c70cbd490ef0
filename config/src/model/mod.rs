//! The validated configuration: what every other crate sees. Values of these types cannot be wrong, so nothing
//! after the parser checks them again. Never reads a file, never touches serde.

mod tenant;
mod terminate;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use self::tenant::*;
pub use self::terminate::*;

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
    /// Who is asked for the addresses of backends that are names.
    pub resolver: Resolver,
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

    /// Whether connections are made with addresses that are not this host's.
    pub fn has_transparent_tenants(&self) -> bool {
        self.tenants.iter().any(|tenant| tenant.client_address == ClientAddress::Transparent)
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

    /// The uid that the router drops to when it is started as root; `None` where `user` is a name, whose uid is the
    /// system's knowledge.
    pub(crate) fn known_router_uid(&self) -> Option<u32> {
        match &self.user {
            Some(User::Id(uid)) => Some(*uid),
            Some(User::Name(_)) => None,
            None => Some(crate::DEFAULT_ROUTER_UID),
        }
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

/// How names become addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Who is asked; empty means the servers of resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// An answer holds at least so long, whatever its TTL.
    pub min_ttl: Duration,
    /// An answer holds no longer; not below `min_ttl`.
    pub max_ttl: Duration,
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
    /// Bounds of what one source may use; `None` means none.
    pub per_source: Option<PerSource>,
}

/// Bounds of what one source may use of a listener; `None` means no bound, and one of them is `Some`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerSource {
    /// Connections that the router itself holds at one time.
    pub max_connections: Option<u32>,
    /// New connections per second, as many at once.
    pub connection_rate: Option<u32>,
    /// Leading bits of an IPv4 address that make a source, at most 32.
    pub ipv4_prefix: u8,
    /// Leading bits of an IPv6 address that make a source, at most 128.
    pub ipv6_prefix: u8,
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
