//! What a terminator tells about itself when the router asks; the router turns it into metrics.

use serde::{Deserialize, Serialize};

/// A terminator's counters since its start. Unknown fields are ignored and missing ones are empty, so that
/// versions can differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TerminatorStatus {
    /// Whose terminator this is.
    pub tenant: String,
    /// Its process.
    pub pid: u32,
    /// Handshakes by how they ended.
    pub handshakes: Vec<HandshakeCount>,
    /// TLS handshakes with backends by how they ended; empty where backends get plaintext.
    pub backend_handshakes: Vec<HandshakeCount>,
    /// How long successful handshakes took, in seconds.
    pub handshake_seconds: Histogram,
    /// Client certificates by verdict.
    pub client_certificates: Vec<ClientCertificateCount>,
    /// Connections that are open now.
    pub active: u64,
    /// Bytes delivered to backends.
    pub client_to_backend: u64,
    /// Bytes delivered to clients.
    pub backend_to_client: u64,
    /// Where its connections go.
    pub backends: Vec<BackendStatus>,
    /// What it serves with.
    pub certificates: Vec<CertificateStatus>,
    /// What else ends, the nearest ends first: issuers, CAs that are trusted or told, revocation lists.
    pub trust: Vec<TrustStatus>,
    /// Connections that have ended.
    pub connections: Vec<ConnectionCount>,
    /// How it is confined.
    pub sandbox: Vec<SandboxPart>,
    /// What clients are told to trust, as PEM; empty where there is nothing to tell.
    pub ca_bundle: String,
}

/// Handshakes that ended in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandshakeCount {
    /// `ok` or a label of the documented table.
    pub outcome: String,
    /// Finer than the outcome; empty for `ok`.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// Client certificates that got one verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientCertificateCount {
    /// `ok` or a label of the documented table.
    pub outcome: String,
    /// Finer than the outcome; empty for `ok`.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// Connections that ended in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionCount {
    /// `ok` or a label of the documented table.
    pub outcome: String,
    /// How many.
    pub count: u64,
}

/// One backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendStatus {
    /// Where it listens; its name and port where the name has no address.
    pub address: String,
    /// Name and port as they are configured; empty where that is the address.
    pub name: String,
    /// Whether it gets connections.
    pub up: bool,
    /// Connections to it that have not ended.
    pub active: u64,
}

/// A histogram in Prometheus' sense.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// Upper bounds, ascending, without infinity.
    pub bounds: Vec<f64>,
    /// Observations per bucket, not cumulated; one more than `bounds`, the last for everything above.
    pub counts: Vec<u64>,
    /// Sum of all observations.
    pub sum: f64,
}

/// One certificate that a terminator serves with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateStatus {
    /// What the operator calls it: its folder or file.
    pub name: String,
    /// Hexadecimal.
    pub serial: String,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
    /// The DNS names and IP addresses that it covers.
    pub names: Vec<String>,
}

/// Something beside the certificates whose end refuses somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrustStatus {
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

/// One means of a terminator's confinement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxPart {
    /// Such as `seccomp`.
    pub part: String,
    /// Whether the kernel confirmed it.
    pub holds: bool,
    /// Why not, where it does not.
    pub reason: String,
}
