//! nginx's stream module, routing by ssl_preread, and terminating TLS.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use tests::client_tools::{NGINX_STREAM_MODULE, Tool};

use super::process::Process;
use super::{CONNECTIONS, Entrant, Router, Site, Subject};
use crate::cell::Mode;

pub(super) fn start(site: &Site<'_>) -> Result<Entrant> {
    let program = Tool::Nginx.find().context("nginx with its stream module is not installed")?;
    let said = Command::new(&program).arg("-v").output().context("nginx -v")?;
    let version = String::from_utf8_lossy(&said.stderr).trim().replace("nginx version: ", "");

    let files = site.clients.certificate.write_files(site.scratch.path(), "nginx")?;
    let (passthrough, terminate) = (site.place.free_address()?, site.place.free_address()?);
    let mut text = String::new();
    if Path::new(NGINX_STREAM_MODULE).exists() {
        writeln!(text, "load_module {NGINX_STREAM_MODULE};")?;
    }
    let pid = site.scratch.join("nginx.pid");
    writeln!(text, "daemon off; worker_processes 2; pid {}; error_log stderr crit;", pid.display())?;
    // Two for each connection, and one worker of the two may get more than half of them.
    writeln!(text, "worker_rlimit_nofile {};", 2 * CONNECTIONS)?;
    writeln!(text, "events {{ worker_connections {}; }}\nstream {{", 2 * CONNECTIONS)?;
    for (mode, name) in [(Mode::Passthrough, "ssl_preread_server_name"), (Mode::Terminate, "ssl_server_name")] {
        writeln!(text, "  map ${name} ${} {{", mode.name())?;
        for (service, backend) in site.backends.routed(mode) {
            writeln!(text, "    {} {backend};", service.host(mode))?;
        }
        writeln!(text, "  }}")?;
    }
    writeln!(text, "  server {{ listen {passthrough} reuseport; ssl_preread on; proxy_pass $passthrough; }}")?;
    writeln!(text, "  server {{ listen {terminate} reuseport ssl; {TLS} proxy_pass $terminate;")?;
    let (certificate, key) = (files.certificate.display(), files.key.display());
    writeln!(text, "    ssl_certificate {certificate}; ssl_certificate_key {key};\n  }}\n}}")?;

    let mut command = Command::new(program);
    command.args(["-e", "stderr", "-p"]).arg(site.scratch.path());
    command.arg("-c").arg(site.scratch.write("nginx.conf", &text)?);
    let process = Arc::new(Process::start(site.scratch, site.place, "nginx", command)?);
    let router = |address| Router { address, process: Arc::clone(&process) };
    let subjects = vec![
        Subject::routed(Mode::Passthrough, "nginx", router(passthrough)),
        Subject::routed(Mode::Terminate, "nginx", router(terminate)),
    ];
    Ok(Entrant { version, subjects })
}

const TLS: &str = "ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; ssl_session_cache off;";
