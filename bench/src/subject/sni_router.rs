//! sni-router as `sni-router run` starts it: one instance for each data path, the first with both modes.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use config::Config;
use tests::binaries;
use tests::setup::tenant_owner;

use super::process::Process;
use super::{Entrant, Router, Site, Subject};
use crate::cell::Mode;
use crate::target::KeyExchange;

pub(super) fn start(site: &Site<'_>, data_paths: bool) -> Result<Entrant> {
    let splice = instance(site, "splice", "Splice", &[Mode::Passthrough])?;
    let copy = instance(site, "copy", "Copy", &[Mode::Passthrough])?;
    let mut subjects = Vec::new();
    if !data_paths {
        let auto = instance(site, "auto", "Auto", &Mode::ALL)?;
        subjects.extend([
            Subject::routed(Mode::Passthrough, "sni-router", auto.clone()),
            Subject::routed(Mode::Terminate, "sni-router", auto.clone()),
            Subject {
                key_exchange: KeyExchange::PostQuantum,
                ..Subject::routed(Mode::Terminate, "sni-router-mlkem", auto)
            },
        ]);
    }
    if site.place.is_isolated() {
        // On loopback every connection would be relayed.
        let cut = instance(site, "cut", "CutThrough", &[Mode::Passthrough])?;
        subjects.push(Subject::routed(Mode::Passthrough, "sni-router-cut", cut));
    }
    subjects.extend([
        Subject::routed(Mode::Passthrough, "sni-router-splice", splice),
        Subject::routed(Mode::Passthrough, "sni-router-copy", copy),
    ]);
    Ok(Entrant { version: version()?, subjects })
}

fn instance(site: &Site<'_>, name: &str, data_path: &str, modes: &[Mode]) -> Result<Router> {
    let address = site.place.free_address()?;
    let yaml = yaml(site, name, data_path, modes, address)?;
    let config = Config::from_yaml(&yaml).map_err(|errors| anyhow!("{errors}\n{yaml}"))?;
    for tenant in config.tenants.iter().filter(|tenant| tenant.name.starts_with(Mode::Terminate.name())) {
        let owner = tenant_owner(&config, &tenant.name)?;
        site.clients.certificate.write_secret_dir(&site.scratch.join(&tenant.name), owner)?;
    }
    let file = site.scratch.write(&format!("sni-router-{name}.yaml"), &yaml)?;
    let mut command = Command::new(binaries::beside_us("sni-router")?);
    command.args(["run", "--config"]).arg(file).env("NO_COLOR", "1");
    let process = Process::start(site.scratch, site.place, &format!("sni-router-{name}"), command)?;
    Ok(Router { address, process: Arc::new(process) })
}

fn yaml(site: &Site<'_>, name: &str, data_path: &str, modes: &[Mode], address: SocketAddr) -> Result<String> {
    let runtime = site.scratch.join(&format!("run-{name}"));
    let mut yaml = format!(
        "runtimeDir: {}\nworkers: 2\ndataPath: {data_path}\n\
         listeners: [{{ name: tls, address: \"{address}\" }}]\n\
         tenants:\n",
        runtime.display()
    );
    for mode in modes {
        for (service, backend) in site.backends.routed(*mode) {
            let tenant = format!("{}-{}", mode.name(), service.name());
            let tls = match mode {
                Mode::Passthrough => "mode: Passthrough".to_owned(),
                Mode::Terminate => format!(
                    "mode: Terminate, tls: {{ minVersion: \"1.3\", certificates: [{{ secretDir: {} }}] }}",
                    site.scratch.join(&tenant).display()
                ),
            };
            writeln!(
                yaml,
                "  - {{ name: {tenant}, hostnames: [{}], backends: [{{ address: \"{backend}\" }}], {tls} }}",
                service.host(*mode)
            )?;
        }
    }
    Ok(yaml)
}

fn version() -> Result<String> {
    let done = Command::new(binaries::beside_us("sni-router")?).arg("--version").output().context("sni-router")?;
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}
