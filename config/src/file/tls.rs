//! TLS as it is written: towards clients and towards backends.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::client_rule::{Group, Sha256, UriPattern};
use crate::endpoint::Endpoint;
use crate::field::Field;
use crate::hostname::HostnamePattern;
use crate::name::FilePath;
use crate::text::Text;

/// How a tenant's TLS is terminated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub(crate) struct TlsFile {
    /// Its certificates; at least one. The one that fits the server name and the client's key types is shown.
    #[schemars(length(min = 1))]
    pub(crate) certificates: Field<Vec<Field<CertificateFile>>>,
    /// A PEM file of the CAs that clients are told to trust; several while one replaces another. Default: ca.crt of
    /// the secretDir in use. Generated certificates bring their own.
    #[serde(default)]
    pub(crate) ca_bundle: Field<Text<FilePath>>,
    /// Names and IP addresses by which clients reach this tenant besides its hostnames. Certificates have to cover
    /// them; generated ones do.
    #[serde(default)]
    pub(crate) external_endpoints: Field<Vec<Field<Text<Endpoint>>>>,
    /// The lowest protocol version that is negotiated.
    #[serde(default)]
    #[schemars(extend("default" = "1.2"))]
    pub(crate) min_version: Field<TlsVersionFile>,
    /// ALPN protocols in order of preference. Default: ALPN is not negotiated.
    #[serde(default)]
    pub(crate) alpn: Field<Vec<Field<String>>>,
    /// Whether clients show certificates.
    #[serde(default)]
    pub(crate) client_validation: Field<ClientValidationFile>,
}

/// Where a certificate and its key come from: `secretDir`, `certificate` and `key`, or `generate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    rename = "Certificate",
    extend("oneOf" = [
        { "required": ["secretDir"] },
        { "required": ["certificate", "key"] },
        { "required": ["generate"] },
        { "required": ["acme"] },
    ])
)]
pub(crate) struct CertificateFile {
    /// A folder in the layout of a kubernetes.io/tls Secret: tls.crt, tls.key.
    #[serde(default)]
    pub(crate) secret_dir: Field<Text<FilePath>>,
    /// A PEM file: the leaf, then its issuers.
    #[serde(default)]
    pub(crate) certificate: Field<Text<FilePath>>,
    /// A PEM file: the leaf's private key.
    #[serde(default)]
    pub(crate) key: Field<Text<FilePath>>,
    /// From a CA of the tenant's own, which its terminator makes and keeps; in use while none of the other
    /// certificates is there.
    #[serde(default)]
    pub(crate) generate: Field<bool>,
    /// From an ACME server. Not available yet.
    #[serde(default)]
    pub(crate) acme: Field<AcmeFile>,
}

/// An ACME server (RFC 8555).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Acme")]
#[expect(dead_code, reason = "known to the schema before it is available")]
pub(crate) struct AcmeFile {
    /// URL of its directory.
    pub(crate) directory: Field<String>,
    /// Whom it may write to.
    #[serde(default)]
    pub(crate) email: Field<String>,
}

/// A TLS protocol version.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "TlsVersion")]
pub(crate) enum TlsVersionFile {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Whether clients show certificates.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "ClientValidation")]
pub(crate) struct ClientValidationFile {
    /// Who must show a certificate.
    pub(crate) mode: Field<ClientValidationModeFile>,
    /// PEM files of the CAs that client certificates must come from.
    #[serde(default)]
    pub(crate) ca: Field<Vec<Field<Text<FilePath>>>>,
    /// PEM files of revocation lists. Where there is one, every CA of a client's chain needs one that is not outdated.
    #[serde(default)]
    pub(crate) crl: Field<Vec<Field<Text<FilePath>>>>,
    /// How many intermediates may stand between a client's certificate and one of these CAs. Default: up to 6.
    #[serde(default)]
    #[schemars(range(max = MAX_INTERMEDIATES))]
    pub(crate) max_intermediates: Field<u32>,
    /// Which certificates of these CAs are let in; none listed: every one.
    #[serde(default)]
    pub(crate) allow: Field<Vec<Field<AllowFile>>>,
}

/// Who must show a certificate.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ClientValidationMode")]
pub(crate) enum ClientValidationModeFile {
    /// Nobody is asked for one.
    None,
    /// Who shows one must show a valid one.
    Optional,
    /// Everybody.
    Required,
}

/// Certificates that are let in: those that have everything that is named here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "AllowedCertificate")]
pub(crate) struct AllowFile {
    /// A URI name such as spiffe://acme/prod/*; each * stands for one segment.
    #[serde(default)]
    pub(crate) uri: Field<Text<UriPattern>>,
    /// A DNS name, or a wildcard for one label of it.
    #[serde(default)]
    pub(crate) dns: Field<Text<HostnamePattern>>,
    /// The subject's common name.
    #[serde(default)]
    pub(crate) common_name: Field<String>,
    /// An organizational unit of the subject.
    #[serde(default)]
    pub(crate) organizational_unit: Field<String>,
    /// SHA-256 of the DER leaf, in hexadecimal.
    #[serde(default)]
    pub(crate) sha256: Field<Text<Sha256>>,
    /// The groups that such a client is in; it is in those of all rules that let it in.
    #[serde(default)]
    pub(crate) groups: Field<Vec<Field<Text<Group>>>>,
}

/// As many as webpki follows (its MAX_SUB_CA_COUNT).
pub(crate) const MAX_INTERMEDIATES: u32 = 6;
