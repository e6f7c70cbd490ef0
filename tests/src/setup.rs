//! The configuration of a router under test: scenarios name what they are about, everything else gets a free address
//! or the default. Writes the YAML and the secrets, starts nothing.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use config::{Config, Mode, Startup};

use crate::authority::{Identity, Owner};
use crate::ports::free_address;
use crate::scratch::Scratch;

/// What a scenario wants to run; the first listener is there from the start.
pub struct Setup {
    top: Vec<String>,
    listeners: Vec<Listener>,
    tenants: Vec<Tenant>,
}

impl Setup {
    /// One listener named `tls` with the defaults, no tenant yet.
    pub fn new() -> Self {
        Self { top: Vec::new(), listeners: vec![Listener::new("tls")], tenants: Vec::new() }
    }

    /// A top-level line of YAML, such as `dataPath: Copy`.
    #[must_use]
    pub fn line(mut self, yaml: &str) -> Self {
        self.top.push(yaml.to_owned());
        self
    }

    /// A line of YAML for the listener that was named last, such as `clientHello: { timeout: 1s, maxBytes: 4096 }`.
    #[must_use]
    pub fn listener_line(mut self, yaml: &str) -> Self {
        if let Some(listener) = self.listeners.last_mut() {
            listener.lines.push(yaml.to_owned());
        }
        self
    }

    /// The IP address of the listener that was named last, instead of 127.0.0.1; `[::]` for both families.
    #[must_use]
    pub fn listener_address(mut self, address: IpAddr) -> Self {
        if let Some(listener) = self.listeners.last_mut() {
            listener.address = address;
        }
        self
    }

    /// One more listener.
    #[must_use]
    pub fn listener(mut self, name: &str) -> Self {
        self.listeners.push(Listener::new(name));
        self
    }

    /// One more tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: Tenant) -> Self {
        self.tenants.push(tenant);
        self
    }

    /// A line of YAML for each tenant that was named so far.
    #[must_use]
    pub fn line_of_each_tenant(mut self, yaml: &str) -> Self {
        self.tenants.iter_mut().for_each(|tenant| tenant.lines.push(yaml.to_owned()));
        self
    }

    /// Chooses addresses, writes the configuration and the secrets below `scratch`, the secrets for the tenants' uids
    /// when we are root.
    pub fn write(self, scratch: &Scratch) -> Result<Written> {
        let admin = free_address()?;
        let listeners = self
            .listeners
            .iter()
            .map(|listener| Ok((listener.name.clone(), SocketAddr::new(listener.address, free_address()?.port()))))
            .collect::<Result<Vec<_>>>()?;
        let yaml = self.yaml(scratch.path(), admin, &listeners);
        let path = scratch.write("config.yaml", &yaml)?;
        let config = Config::from_yaml(&yaml).map_err(|errors| anyhow::anyhow!("{errors}\n{yaml}"))?;
        for tenant in self.tenants.iter().filter(|tenant| !tenant.certificates.is_empty()) {
            let owner = tenant_owner(&config, &tenant.name)?;
            for (number, identity) in tenant.certificates.iter().enumerate() {
                identity.write_secret_dir(&secret_dir(scratch.path(), &tenant.name, number), owner)?;
            }
            if let Some((_, Some(client))) = &tenant.backend_tls {
                client.write_secret_dir(&backend_client_dir(scratch.path(), &tenant.name), owner)?;
            }
        }
        for tenant in self.tenants.iter().filter(|tenant| !tenant.certificate_lines.is_empty()) {
            let folder = secret_dir(scratch.path(), &tenant.name, 0);
            std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
            if let Some(Owner { uid, gid }) = tenant_owner(&config, &tenant.name)? {
                std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).context("give the secret's folder away")?;
            }
        }
        let always = |tenant: &config::Tenant| match &tenant.mode {
            Mode::Terminate(terminate) => terminate.startup == Startup::Always,
            Mode::Passthrough => false,
        };
        let terminated = config.tenants.iter().filter(|tenant| always(tenant));
        Ok(Written { terminated: terminated.map(|tenant| tenant.name.clone()).collect(), path, admin, listeners })
    }

    fn yaml(&self, folder: &Path, admin: SocketAddr, listeners: &[(String, SocketAddr)]) -> String {
        let mut yaml = format!("runtimeDir: {}\nadmin: {{ address: \"{admin}\" }}\n", folder.join("run").display());
        for line in &self.top {
            let _ = writeln!(yaml, "{line}");
        }
        yaml.push_str("listeners:\n");
        for (listener, (name, address)) in self.listeners.iter().zip(listeners) {
            let _ = writeln!(yaml, "  - name: {name}\n    address: \"{address}\"");
            for line in &listener.lines {
                let _ = writeln!(yaml, "    {line}");
            }
        }
        yaml.push_str("tenants:\n");
        for tenant in &self.tenants {
            tenant.write_yaml(&mut yaml, folder);
        }
        yaml
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

struct Listener {
    name: String,
    address: IpAddr,
    lines: Vec<String>,
}

impl Listener {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), address: Ipv4Addr::LOCALHOST.into(), lines: Vec::new() }
    }
}

/// One tenant of the port.
pub struct Tenant {
    name: String,
    hostnames: Vec<String>,
    /// Address and weight of each.
    backends: Vec<(String, u16)>,
    certificates: Vec<Identity>,
    /// Further elements of `tls.certificates`, as YAML; `{folder}` stands for the scenario's folder.
    certificate_lines: Vec<String>,
    tls_lines: Vec<String>,
    /// The fields of `backendTls` but its client certificate, and that.
    backend_tls: Option<(String, Option<Identity>)>,
    lines: Vec<String>,
}

impl Tenant {
    /// Its TLS stays end to end.
    pub fn passthrough(name: &str, hostnames: &[&str], backend: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            hostnames: hostnames.iter().map(|&hostname| hostname.to_owned()).collect(),
            backends: vec![(backend.to_string(), 1)],
            certificates: Vec::new(),
            certificate_lines: Vec::new(),
            tls_lines: Vec::new(),
            backend_tls: None,
            lines: Vec::new(),
        }
    }

    /// Its TLS ends in a terminator with this certificate.
    pub fn terminate(name: &str, hostnames: &[&str], backend: SocketAddr, certificate: &Identity) -> Self {
        Self::passthrough(name, hostnames, backend).certificate(certificate)
    }

    /// Its TLS ends in a terminator that makes its own certificate, unless one lies in the folder of certificate 0,
    /// which is there and empty.
    pub fn generate(name: &str, hostnames: &[&str], backend: SocketAddr) -> Self {
        let mut tenant = Self::passthrough(name, hostnames, backend);
        let secret = secret_dir(Path::new("{folder}"), name, 0);
        tenant.certificate_lines =
            vec![format!("{{ secretDir: \"{}\" }}", secret.display()), "{ generate: true }".to_owned()];
        tenant
    }

    /// One more backend.
    #[must_use]
    pub fn backend(mut self, address: SocketAddr, weight: u16) -> Self {
        self.backends.push((address.to_string(), weight));
        self
    }

    /// This name and port instead of all backends so far.
    #[must_use]
    pub fn backend_named(mut self, name: &str, port: u16) -> Self {
        self.backends = vec![(format!("{name}:{port}"), 1)];
        self
    }

    /// One more certificate.
    #[must_use]
    pub fn certificate(mut self, certificate: &Identity) -> Self {
        self.certificates.push(certificate.clone());
        self
    }

    /// A line of YAML below `tls`, such as `minVersion: "1.3"`.
    #[must_use]
    pub fn tls_line(mut self, yaml: &str) -> Self {
        self.tls_lines.push(yaml.to_owned());
        self
    }

    /// TLS to the backend with these fields, such as `serverName: svc.internal, ca: [/ca.crt]`, and with a client
    /// certificate in [`backend_client_dir`].
    #[must_use]
    pub fn backend_tls(mut self, fields: &str, client: Option<&Identity>) -> Self {
        self.backend_tls = Some((fields.to_owned(), client.cloned()));
        self
    }

    /// A line of YAML of the tenant, such as `idleTimeout: 3s`.
    #[must_use]
    pub fn line(mut self, yaml: &str) -> Self {
        self.lines.push(yaml.to_owned());
        self
    }

    fn is_terminated(&self) -> bool {
        !(self.certificates.is_empty() && self.certificate_lines.is_empty())
    }

    fn write_yaml(&self, yaml: &mut String, folder: &Path) {
        let mode = if self.is_terminated() { "Terminate" } else { "Passthrough" };
        let _ = writeln!(yaml, "  - name: {}\n    hostnames: {:?}\n    mode: {mode}", self.name, self.hostnames);
        yaml.push_str("    backends:\n");
        for (address, weight) in &self.backends {
            let _ = writeln!(yaml, "      - {{ address: \"{address}\", weight: {weight} }}");
        }
        for line in &self.lines {
            let _ = writeln!(yaml, "    {line}");
        }
        if let Some((fields, client)) = &self.backend_tls {
            let folder = backend_client_dir(folder, &self.name);
            let client = client.as_ref().map(|_| format!(", clientCertificate: {{ secretDir: {} }}", folder.display()));
            let _ = writeln!(yaml, "    backendTls: {{ {fields}{} }}", client.unwrap_or_default());
        }
        if !self.is_terminated() {
            return;
        }
        yaml.push_str("    tls:\n      certificates:\n");
        for number in 0..self.certificates.len() {
            let _ = writeln!(yaml, "        - {{ secretDir: {} }}", secret_dir(folder, &self.name, number).display());
        }
        for line in &self.certificate_lines {
            let _ = writeln!(yaml, "        - {}", line.replace("{folder}", &folder.display().to_string()));
        }
        for line in &self.tls_lines {
            let _ = writeln!(yaml, "      {line}");
        }
    }
}

/// What [`Setup::write`] chose.
pub struct Written {
    /// The configuration file.
    pub path: PathBuf,
    /// The admin endpoint.
    pub admin: SocketAddr,
    /// Each listener's name and address.
    pub listeners: Vec<(String, SocketAddr)>,
    /// The names of the tenants that have a terminator from the start on.
    pub terminated: Vec<String>,
}

/// The folder of a tenant's certificate with this number.
pub fn secret_dir(folder: &Path, tenant: &str, number: usize) -> PathBuf {
    folder.join(format!("secrets-{tenant}-{number}"))
}

/// The folder of the certificate that a tenant shows to its backends.
pub fn backend_client_dir(folder: &Path, tenant: &str) -> PathBuf {
    folder.join(format!("secrets-{tenant}-backend"))
}

/// The uid and gid that a tenant's terminator will have; `None` as an ordinary user, who keeps their own.
pub fn tenant_owner(config: &Config, tenant: &str) -> Result<Option<Owner>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let uid = config.tenant_uid(tenant).with_context(|| format!("uid of tenant {tenant}"))?;
    let gid = config.tenant_gid(tenant).with_context(|| format!("gid of tenant {tenant}"))?;
    Ok(Some(Owner { uid, gid }))
}
