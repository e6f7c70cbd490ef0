//! What only a tenant's terminator needs: certificates, client certificates, TLS to backends, confinement.

use std::path::PathBuf;
use std::time::Duration;

use crate::client_rule::{Sha256, UriPattern};
use crate::endpoint::Endpoint;
use crate::hostname::{Hostname, HostnamePattern};

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
    /// What a backend is asked for and what its certificate must carry; `None` means the backend's name or its IP address or, with pins alone,
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
