//! TLS towards backends as it is written: what a tenant says, and what holds for all of them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::TlsVersionFile;
use crate::client_rule::Sha256;
use crate::field::Field;
use crate::hostname::Hostname;
use crate::name::FilePath;
use crate::text::Text;

/// TLS to a tenant's backends. It needs `ca` or `pins`, so that there is something to verify a backend by.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "BackendTls")]
pub(crate) struct BackendTlsFile {
    /// The name that the backend is asked for and that its certificate must carry. Default: the name that stands in
    /// `backends`, or the IP address there, which is not sent; with pins alone then no name is looked at.
    #[serde(default)]
    pub(crate) server_name: Field<Text<Hostname>>,
    /// PEM files of the CAs that its certificate must come from.
    #[serde(default)]
    pub(crate) ca: Field<Vec<Field<Text<FilePath>>>>,
    /// SHA-256 digests of the backend's DER certificate or of its DER public key (SubjectPublicKeyInfo); one of them must
    /// be its.
    #[serde(default)]
    pub(crate) pins: Field<Vec<Field<Text<Sha256>>>>,
    /// What is shown to a backend that asks for a certificate. Default: that of the whole file.
    #[serde(default)]
    pub(crate) client_certificate: Field<BackendClientCertificateFile>,
    /// The lowest protocol version that is negotiated.
    #[serde(default)]
    #[schemars(extend("default" = "1.2"))]
    pub(crate) min_version: Field<TlsVersionFile>,
    /// Whether the backend is offered the ALPN protocol that was agreed upon with the client, and has to take it.
    /// Default: the backend is offered none.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) pass_alpn: Field<bool>,
}

/// What holds for the `backendTls` of all tenants.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "GlobalBackendTls")]
pub(crate) struct GlobalBackendTlsFile {
    /// What is shown to a backend that asks for a certificate, where the tenant has no certificate of its own for that.
    /// Every tenant's terminator must be able to read it.
    #[serde(default)]
    pub(crate) client_certificate: Field<BackendClientCertificateFile>,
}

/// A certificate and its key: `secretDir`, or `certificate` and `key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    rename = "BackendClientCertificate",
    extend("oneOf" = [{ "required": ["secretDir"] }, { "required": ["certificate", "key"] }])
)]
pub(crate) struct BackendClientCertificateFile {
    /// A folder in the layout of a kubernetes.io/tls Secret: tls.crt, tls.key.
    #[serde(default)]
    pub(crate) secret_dir: Field<Text<FilePath>>,
    /// A PEM file: the leaf, then its issuers.
    #[serde(default)]
    pub(crate) certificate: Field<Text<FilePath>>,
    /// A PEM file: the leaf's private key.
    #[serde(default)]
    pub(crate) key: Field<Text<FilePath>>,
}
