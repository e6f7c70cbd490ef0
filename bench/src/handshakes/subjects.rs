//! Who is measured: sni-router, one process without isolation, and the peers that this machine has.

use std::env;
use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use config::Config;
use tests::binaries;
use tests::client_tools::{NGINX_STREAM_MODULE, Tool, install_missing_of};
use tests::network::{Network, Place};
use tests::patience::{PATIENCE, eventually};
use tests::scratch::Scratch;
use tests::setup::tenant_owner;

use super::{Certificates, Key};
use crate::subject::Process;

/// One row of the tables.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) process: Process,
    /// For the name with the ECDSA key and for that with the RSA key.
    addresses: [SocketAddr; 2],
}

impl Subject {
    pub(super) fn address(&self, key: Key) -> SocketAddr {
        self.addresses[key as usize]
    }
}

/// All that could be started, in the order of their turns.
pub(super) struct Subjects {
    pub(super) list: Vec<Subject>,
    /// Peers that are left out, and why.
    pub(super) missing: Vec<String>,
}

struct Site<'a> {
    scratch: &'a Scratch,
    place: &'a Place,
    backend: SocketAddr,
    certificates: &'a Certificates,
}

impl Subjects {
    pub(super) fn start(
        scratch: &Scratch,
        network: &Network,
        backend: SocketAddr,
        certificates: &Certificates,
    ) -> Result<Self> {
        let site = Site { scratch, place: &network.router, backend, certificates };
        for key in Key::ALL {
            certificates.of(key).write_files(scratch.path(), key.label())?;
        }
        let mut list = vec![one_process(&site)?, sni_router(&site)?];
        let mut missing = Vec::new();
        install_missing_of(&[Tool::HaProxy, Tool::Nginx])?;
        for (name, start) in [("haproxy", haproxy as fn(&Site<'_>) -> _), ("nginx", nginx)] {
            match start(&site) {
                Ok(subject) => list.push(subject),
                Err(error) => missing.push(format!("{name} is left out: {error:#}")),
            }
        }
        for subject in &list {
            let listens = || subject.addresses.iter().all(|address| TcpStream::connect(address).is_ok()).then_some(());
            let waited = network.client.run(|| eventually(PATIENCE, &format!("{} listens", subject.name), listens));
            waited.with_context(|| format!("the log:\n{}", subject.process.log()))?;
        }
        Ok(Self { list, missing })
    }
}

fn one_process(site: &Site<'_>) -> Result<Subject> {
    let addresses = [site.place.free_address()?, site.place.free_address()?];
    let mut command = Command::new(env::current_exe().context("our own path")?);
    command.args(["one-process", "--backend", &site.backend.to_string(), "--folder"]).arg(site.scratch.path());
    command.arg("--listen").args(addresses.map(|address| address.to_string()));
    let process = Process::start(site.scratch, site.place, "one-process", command)?;
    Ok(Subject { name: "one process", process, addresses })
}

/// A tenant, and so a terminator, for each key.
fn sni_router(site: &Site<'_>) -> Result<Subject> {
    let address = site.place.free_address()?;
    let mut yaml = format!(
        "runtimeDir: {}\nworkers: 2\nlisteners: [{{ name: tls, address: \"{address}\" }}]\ntenants:\n",
        site.scratch.join("run").display()
    );
    for key in Key::ALL {
        let folder = site.scratch.join(&format!("secret-{}", key.label()));
        writeln!(
            yaml,
            "  - {{ name: {}, hostnames: [{}], mode: Terminate, backends: [{{ address: \"{}\" }}], tls: {{ \
             minVersion: \"1.3\", certificates: [{{ secretDir: {} }}] }} }}",
            key.label(),
            key.host(),
            site.backend,
            folder.display()
        )?;
    }
    let config = Config::from_yaml(&yaml).map_err(|errors| anyhow!("{errors}\n{yaml}"))?;
    for key in Key::ALL {
        let folder = site.scratch.join(&format!("secret-{}", key.label()));
        site.certificates.of(key).write_secret_dir(&folder, tenant_owner(&config, key.label())?)?;
    }
    let mut command = Command::new(binaries::beside_us("sni-router")?);
    command.args(["run", "--config"]).arg(site.scratch.write("sni-router.yaml", &yaml)?).env("NO_COLOR", "1");
    let process = Process::start(site.scratch, site.place, "sni-router", command)?;
    Ok(Subject { name: "sni-router", process, addresses: [address; 2] })
}

/// Tickets are on by default.
fn haproxy(site: &Site<'_>) -> Result<Subject> {
    let program = Tool::HaProxy.find().context("haproxy is not installed")?;
    let addresses = [site.place.free_address()?, site.place.free_address()?];
    let mut text = String::from(
        "global\n  nbthread 2\n  maxconn 400\n  tune.ssl.cachesize 0\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
         timeout client 60s\n  timeout server 60s\n",
    );
    for (key, address) in Key::ALL.into_iter().zip(addresses) {
        let [certificate, private] = files(site.scratch.path(), key).map(fs::read_to_string);
        let pem = site.scratch.write(&format!("{}.pem", key.label()), &(certificate? + &private?))?;
        let (label, pem) = (key.label(), pem.display());
        write!(
            text,
            "listen {label}\n  bind {address} ssl crt {pem} ssl-min-ver TLSv1.3 curves X25519\n  server it {}\n",
            site.backend
        )?;
    }
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(site.scratch.write("haproxy.cfg", &text)?);
    let process = Process::start(site.scratch, site.place, "haproxy", command)?;
    Ok(Subject { name: "haproxy", process, addresses })
}

/// Tickets are on by default.
fn nginx(site: &Site<'_>) -> Result<Subject> {
    let program = Tool::Nginx.find().context("nginx with its stream module is not installed")?;
    let addresses = [site.place.free_address()?, site.place.free_address()?];
    let mut text = String::new();
    if Path::new(NGINX_STREAM_MODULE).exists() {
        writeln!(text, "load_module {NGINX_STREAM_MODULE};")?;
    }
    let pid = site.scratch.join("nginx.pid");
    writeln!(text, "daemon off; worker_processes 2; pid {}; error_log stderr crit;", pid.display())?;
    writeln!(text, "events {{ worker_connections 400; }}\nstream {{")?;
    for (key, address) in Key::ALL.into_iter().zip(addresses) {
        let [certificate, private] = files(site.scratch.path(), key);
        writeln!(
            text,
            "  server {{ listen {address} reuseport ssl; proxy_pass {}; ssl_certificate {}; ssl_certificate_key {}; \
             ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; ssl_session_cache off; }}",
            site.backend,
            certificate.display(),
            private.display()
        )?;
    }
    writeln!(text, "}}")?;
    let mut command = Command::new(program);
    command.args(["-e", "stderr", "-p"]).arg(site.scratch.path());
    command.arg("-c").arg(site.scratch.write("nginx.conf", &text)?);
    let process = Process::start(site.scratch, site.place, "nginx", command)?;
    Ok(Subject { name: "nginx", process, addresses })
}

fn files(folder: &Path, key: Key) -> [std::path::PathBuf; 2] {
    ["crt", "key"].map(|ending| folder.join(format!("{}.{ending}", key.label())))
}
