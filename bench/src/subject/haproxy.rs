//! haproxy, routing by `req.ssl_sni` without and with splicing, and terminating TLS.

use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use tests::client_tools::Tool;

use super::process::Process;
use super::{CONNECTIONS, Entrant, Router, Site, Subject};
use crate::cell::{Mode, Service};

pub(super) fn start(site: &Site<'_>) -> Result<Entrant> {
    let program = Tool::HaProxy.find().context("haproxy is not installed")?;
    let said = Command::new(&program).arg("-v").output().context("haproxy -v")?;
    let version = String::from_utf8_lossy(&said.stdout).lines().next().unwrap_or("haproxy").to_owned();

    let files = site.clients.certificate.write_files(site.scratch.path(), "haproxy")?;
    let pem = fs::read_to_string(&files.certificate)? + &fs::read_to_string(&files.key)?;
    let pem = site.scratch.write("haproxy.pem", &pem)?;
    let start = |name: &str, frontends: &str| {
        let mut text = GLOBAL.replace("CONNECTIONS", &CONNECTIONS.to_string()) + frontends;
        for mode in Mode::ALL {
            for (service, backend) in site.backends.routed(mode) {
                write!(text, "backend {}\n  server it {backend}\n", service.host(mode))?;
            }
        }
        let mut command = Command::new(&program);
        command.arg("-db").arg("-f").arg(site.scratch.write(&format!("{name}.cfg"), &text)?);
        Process::start(site.scratch, site.place, name, command).map(Arc::new)
    };
    // A process for each, because idle memory is that of a process.
    let mut subjects = Vec::new();
    for (name, option) in [("haproxy-splice", "option splice-auto"), ("haproxy-copy", "")] {
        let address = site.place.free_address()?;
        let rules = rules(Mode::Passthrough, "req.ssl_sni");
        let process = start(name, &format!("frontend it\n  bind {address}\n  {option}\n{INSPECT}{rules}"))?;
        subjects.push(Subject::routed(Mode::Passthrough, name, Router { address, process }));
    }
    let address = site.place.free_address()?;
    let rules = rules(Mode::Terminate, "ssl_fc_sni");
    let process = start("haproxy", &format!("frontend it\n  bind {address} ssl crt {} {TLS}\n{rules}", pem.display()))?;
    subjects.push(Subject::routed(Mode::Terminate, "haproxy", Router { address, process }));
    Ok(Entrant { version, subjects })
}

fn rules(mode: Mode, name: &str) -> String {
    let hosts = Service::ALL.map(|service| service.host(mode));
    hosts.map(|host| format!("  use_backend {host} if {{ {name} -i {host} }}\n")).concat()
}

/// No log, and as many threads as everybody else has. Unless they are said, pipes take half as many descriptors as
/// connections; far fewer move bytes at a time here.
const GLOBAL: &str = "\
global
  nbthread 2
  maxconn CONNECTIONS
  maxpipes 256
  tune.ssl.cachesize 0
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
";

/// The manual's way to wait for the hello (section 7.3.5, req.ssl_sni).
const INSPECT: &str = "  tcp-request inspect-delay 5s\n  tcp-request content accept if { req.ssl_hello_type 1 }\n";

const TLS: &str = "ssl-min-ver TLSv1.3 curves X25519";
