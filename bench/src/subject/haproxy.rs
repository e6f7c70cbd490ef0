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
    let (copy, splice, terminate) =
        (site.place.free_address()?, site.place.free_address()?, site.place.free_address()?);
    let mut text = GLOBAL.replace("CONNECTIONS", &CONNECTIONS.to_string());
    for (name, address, option) in [("copy", copy, ""), ("splice", splice, "option splice-auto")] {
        let rules = rules(Mode::Passthrough, "req.ssl_sni");
        write!(text, "frontend {name}\n  bind {address}\n  {option}\n{INSPECT}{rules}")?;
    }
    let rules = rules(Mode::Terminate, "ssl_fc_sni");
    write!(text, "frontend terminate\n  bind {terminate} ssl crt {} {TLS}\n{rules}", pem.display())?;
    for mode in Mode::ALL {
        for (service, backend) in site.backends.routed(mode) {
            write!(text, "backend {}\n  server it {backend}\n", service.host(mode))?;
        }
    }
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(site.scratch.write("haproxy.cfg", &text)?);
    let process = Arc::new(Process::start(site.scratch, site.place, "haproxy", command)?);
    let router = |address| Router { address, process: Arc::clone(&process) };
    let subjects = vec![
        Subject::routed(Mode::Passthrough, "haproxy-splice", router(splice)),
        Subject::routed(Mode::Passthrough, "haproxy-copy", router(copy)),
        Subject::routed(Mode::Terminate, "haproxy", router(terminate)),
    ];
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
