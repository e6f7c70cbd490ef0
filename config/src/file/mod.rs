//! The configuration file as it is written: every field that the contract knows, for serde and for the JSON Schema.
//! The comments here are the schema's descriptions. Never checks one field against another.

mod backend_tls;
mod listener;
mod resolver;
mod tcp;
mod tenant;
mod tls;
mod user;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::ListenAddress;
use crate::field::Field;
use crate::name::FilePath;
use crate::text::Text;

pub(crate) use backend_tls::*;
pub(crate) use listener::*;
pub(crate) use resolver::*;
pub(crate) use tcp::*;
pub(crate) use tenant::*;
pub(crate) use tls::*;
pub(crate) use user::UserFile;

/// Configuration of sni-router.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "sni-router")]
pub(crate) struct ConfigFile {
    /// Folder of the hand-off and admin sockets.
    #[serde(default)]
    #[schemars(extend("default" = RUNTIME_DIR))]
    pub(crate) runtime_dir: Field<Text<FilePath>>,
    /// Folder of what outlives a restart: the CAs of tenants with `generate`. Default: the runtimeDir, which is empty
    /// after a reboot of most hosts.
    #[serde(default)]
    pub(crate) state_dir: Field<Text<FilePath>>,
    /// Worker threads of the router. Default: one per core.
    #[serde(default)]
    #[schemars(range(min = 1, max = MAX_WORKERS))]
    pub(crate) workers: Field<u32>,
    /// The user, by name or uid, that the router drops to when it is started as root. Default: uid 61183.
    #[serde(default)]
    pub(crate) user: Field<UserFile>,
    /// First and last uid for the terminators of tenants without `sandbox.uid`, when started as root.
    #[serde(default)]
    #[schemars(extend("default" = UID_RANGE))]
    pub(crate) uid_range: Field<(Field<u32>, Field<u32>)>,
    /// How the bytes of passthrough connections move.
    #[serde(default)]
    #[schemars(extend("default" = "Auto"))]
    pub(crate) data_path: Field<DataPathFile>,
    /// How strictly the terminators are confined; a tenant can override it.
    #[serde(default)]
    pub(crate) sandbox: Field<GlobalSandboxFile>,
    /// What holds for the `backendTls` of all tenants.
    #[serde(default)]
    pub(crate) backend_tls: Field<GlobalBackendTlsFile>,
    /// How the names of backends become addresses.
    #[serde(default)]
    pub(crate) resolver: Field<ResolverFile>,
    /// Read-only HTTP endpoint. Default: off.
    #[serde(default)]
    pub(crate) admin: Field<AdminFile>,
    /// One line per connection. Default: off.
    #[serde(default)]
    pub(crate) access_log: Field<AccessLogFile>,
    /// Where clients connect; at least one.
    #[schemars(length(min = 1))]
    pub(crate) listeners: Field<Vec<Field<ListenerFile>>>,
    /// Who is served; at least one.
    #[schemars(length(min = 1))]
    pub(crate) tenants: Field<Vec<Field<TenantFile>>>,
}

/// How the bytes of passthrough connections move.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "DataPath")]
pub(crate) enum DataPathFile {
    /// The best way for each connection.
    Auto,
    /// In the kernel, by eBPF, where the connection and the system allow it.
    CutThrough,
    /// splice(2) from the first byte.
    Splice,
    /// Read and write, always.
    Copy,
}

/// How strictly the terminators are confined.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Sandbox")]
pub(crate) struct GlobalSandboxFile {
    /// What happens where the kernel lacks a means of confinement.
    #[serde(default)]
    #[schemars(extend("default" = "BestEffort"))]
    pub(crate) policy: Field<SandboxPolicyFile>,
}

/// What happens where the kernel lacks a means of confinement.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "SandboxPolicy")]
pub(crate) enum SandboxPolicyFile {
    /// Start-up says so and goes on.
    BestEffort,
    /// The terminator does not start.
    Required,
}

/// Read-only HTTP endpoint: /healthz, /readyz, /metrics.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Admin")]
pub(crate) struct AdminFile {
    /// Where it listens.
    pub(crate) address: Field<Text<ListenAddress>>,
}

/// One line per connection, at its end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "AccessLog")]
pub(crate) struct AccessLogFile {
    /// A file that is appended to, or `-` for the standard output.
    pub(crate) path: Field<Text<FilePath>>,
    /// The format of a line.
    #[serde(default)]
    #[schemars(extend("default" = "Json"))]
    pub(crate) format: Field<AccessLogFormat>,
}

/// The format of an access log line.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(crate) enum AccessLogFormat {
    /// One JSON object.
    Json,
}

pub(crate) const RUNTIME_DIR: &str = "/run/sni-router";
/// As systemd's DynamicUser= (systemd.exec(5)).
pub(crate) const UID_RANGE: [u32; 2] = [61184, 65519];
/// More threads than any machine has cores is a slip.
pub(crate) const MAX_WORKERS: u32 = 1024;
