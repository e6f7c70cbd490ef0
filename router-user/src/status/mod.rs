//! What the router tells about itself in JSON, under `/v1/` of the admin endpoint: the types, how they are filled, and how
//! they look on a terminal. Holds no key and no file: certificates are what their terminators say of them.

mod gather;
mod overlap;
mod screen;

use serde::{Deserialize, Serialize};

pub use gather::{backends, certificates, tenants};
pub use screen::screen;

/// `/v1/tenants`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tenants {
    /// The router's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// `running` or `draining`.
    pub phase: String,
    /// Why the configuration file is not what is in force; empty where it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reload_failure: String,
    /// In the order of the configuration.
    pub tenants: Vec<TenantStatus>,
    /// Passthrough connections by the best path that they took.
    pub data_paths: Vec<Count>,
    /// Passthrough connections that could not take a better one, by reason.
    pub fallbacks: Vec<Count>,
    /// Programs of the kernel that the configuration asks for.
    pub kernel_programs: Vec<KernelProgram>,
}

/// One tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantStatus {
    /// Its name.
    pub name: String,
    /// `Passthrough` or `Terminate`.
    pub mode: String,
    /// What it claims.
    pub hostnames: Vec<String>,
    /// Connections that have not ended.
    pub active: u64,
    /// Connections that have ended, or were handed to its terminator.
    pub total: u64,
    /// Bytes delivered to backends.
    pub client_to_backend_bytes: u64,
    /// Bytes delivered to clients.
    pub backend_to_client_bytes: u64,
    /// Only under Terminate.
    pub terminator: Option<TerminatorView>,
}

/// A tenant's terminator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TerminatorView {
    /// `up`, `down`, `silent` when it is there and does not answer, `stopped` until a connection asks for it.
    pub state: String,
    /// Its process; 0 where that is not known.
    pub pid: u32,
    /// How often it came back after it had gone.
    pub restarts: u64,
    /// Whether each means of its confinement holds, and why not.
    pub confinement: Vec<ConfinementPart>,
    /// Whether clients are told which CA to trust, at `/v1/ca/NAME`.
    pub advertises_ca: bool,
}

/// One means of confinement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfinementPart {
    /// Such as `seccomp`.
    pub part: String,
    /// Whether the kernel confirmed it.
    pub holds: bool,
    /// Why not, where it does not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How many of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Count {
    /// The kind, as in the metrics' labels.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// A program of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KernelProgram {
    /// Such as `steer`.
    pub program: String,
    /// Whether the kernel runs it.
    pub up: bool,
    /// Why not, where it does not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// `/v1/certificates`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificates {
    /// Of all tenants whose terminator answers, then those of probed backends.
    pub certificates: Vec<CertificateView>,
    /// What else ends: issuers, CAs that are trusted or told, revocation lists.
    pub trust: Vec<TrustView>,
}

/// One issuer, CA or revocation list in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrustView {
    /// Whose it is.
    pub tenant: String,
    /// `issuer`, `client_ca`, `backend_ca`, `advertised_ca` or `revocation_list`.
    pub kind: String,
    /// Its folder or file.
    pub name: String,
    /// Who it is; of a revocation list, its issuer.
    pub subject: String,
    /// Hexadecimal; of a revocation list, its number.
    pub serial: String,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
}

/// One certificate in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateView {
    /// Whose it is.
    pub tenant: String,
    /// What the operator calls it; of a probed backend `backend` and its address.
    pub name: String,
    /// Hexadecimal.
    pub serial: String,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
    /// The DNS names and IP addresses that it covers.
    pub names: Vec<String>,
    /// Another tenant's hostname among what it covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<OverlapView>,
}

/// A hostname that clients may take for another tenant's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverlapView {
    /// The hostname.
    pub hostname: String,
    /// Whose it is.
    pub tenant: String,
}

/// `/v1/backends`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backends {
    /// Of all tenants; those of a terminator that does not answer are missing.
    pub backends: Vec<BackendView>,
}

/// One backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendView {
    /// Whose it is.
    pub tenant: String,
    /// Where it listens; its name and port where the name has no address.
    pub address: String,
    /// Name and port as they are configured, where that is not the address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether it gets connections.
    pub up: bool,
    /// Connections to it that have not ended.
    pub active: u64,
}
