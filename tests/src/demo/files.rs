//! What the demo writes: certificates and the configuration.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use config::Config;

use super::folder::Folder;
use super::{CLIENT_NAME, Options, PASSTHROUGH_NAME, TERMINATED_NAME};
use crate::authority::{Authority, Identity, KeyKind, PemFiles};
use crate::setup::tenant_owner;

/// Everybody's certificates, fresh for each run.
pub(super) struct Certificates {
    /// Signed all of them.
    pub(super) authority: Authority,
    /// The passthrough backend's own.
    pub(super) pinniped: Identity,
    /// The terminated tenant's.
    pub(super) acme: Identity,
    /// For the person who tries it.
    pub(super) client: Identity,
}

impl Certificates {
    pub(super) fn generate() -> Result<Self> {
        let authority = Authority::new("sni-router demo CA")?;
        Ok(Self {
            pinniped: authority.server(&[PASSTHROUGH_NAME], KeyKind::Ecdsa)?,
            acme: authority.server(&[TERMINATED_NAME, "*.acme.example"], KeyKind::Ecdsa)?,
            client: authority.client(CLIENT_NAME)?,
            authority,
        })
    }
}

/// Where it all lies.
pub(super) struct Files {
    pub(super) config: PathBuf,
    pub(super) authority: PathBuf,
    pub(super) client: PemFiles,
    pub(super) log: PathBuf,
    pub(super) acme_uid: Option<u32>,
}

impl Files {
    pub(super) fn write(
        folder: &Folder,
        certificates: &Certificates,
        options: &Options,
        pinniped: SocketAddr,
        acme: SocketAddr,
    ) -> Result<Self> {
        let files = folder.files();
        let config = files.join("config.yaml");
        let yaml = yaml(folder, options, pinniped, acme);
        fs::write(&config, &yaml).with_context(|| format!("write {}", config.display()))?;
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644))?;
        let parsed =
            Config::from_yaml(&yaml).map_err(|errors| anyhow::anyhow!("the demo's configuration: {errors}"))?;
        let owner = tenant_owner(&parsed, "acme")?;
        certificates.acme.write_secret_dir(&files.join("acme"), owner)?;
        let authority = files.join("ca.crt");
        fs::write(&authority, certificates.authority.pem())
            .with_context(|| format!("write {}", authority.display()))?;
        let client = certificates.client.write_files(files, "client")?;
        let acme_uid = owner.map(|owner| owner.uid);
        Ok(Self { config, authority, client, log: files.join("router.log"), acme_uid })
    }
}

fn yaml(folder: &Folder, options: &Options, pinniped: SocketAddr, acme: SocketAddr) -> String {
    let (files, runtime) = (folder.files().display(), folder.runtime().display());
    let (listen, admin) = (options.listen, options.admin);
    format!(
        "\
# Written by cargo xtask run, anew each time.
runtimeDir: {runtime}
admin: {{ address: \"{admin}\" }}
listeners:
  - name: tls
    address: \"{listen}\"
tenants:
  # TLS stays end to end: the backend asks for the client's certificate itself.
  - name: pinniped
    hostnames: [{PASSTHROUGH_NAME}]
    mode: Passthrough
    backends: [{{ address: \"{pinniped}\" }}]
    drainTimeout: 2s
  # TLS ends in a process of its own, which alone can read the key; the backend gets plain HTTP.
  - name: acme
    hostnames: [{TERMINATED_NAME}, \"*.acme.example\"]
    mode: Terminate
    tls:
      certificates: [{{ secretDir: {files}/acme }}]
      alpn: [http/1.1]
    backends: [{{ address: \"{acme}\" }}]
    drainTimeout: 2s
"
    )
}
