//! The demo from its first file to its last process: certificates, backends, router, one request through each mode.

mod files;
mod folder;
mod router;
mod screen;
mod self_check;
mod stop_signal;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::fakes::{IdentityBackend, PlainHttp};
use files::Files;
use folder::Folder;
use router::Router;
use stop_signal::StopSignal;

/// Where the demo is reached.
#[derive(clap::Parser)]
#[command(name = "demo")]
pub struct Options {
    /// Where the router listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Where it answers about itself
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,
    /// Where its files go [default: target/demo]
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

/// Runs until Ctrl-C, SIGTERM, or the router's end.
pub fn run(options: &Options) -> Result<()> {
    // First of all, because threads inherit the mask that it sets.
    let mut stop = StopSignal::block()?;
    must_be_free(options.listen, "--listen")?;
    must_be_free(options.admin, "--admin")?;
    let folder = Folder::choose(options.folder.as_deref())?;
    let certificates = files::Certificates::generate()?;
    let pinniped = IdentityBackend::start("pinniped", &certificates.pinniped, &certificates.authority)?;
    let acme = PlainHttp::start("acme")?;
    let files = Files::write(&folder, &certificates, options, pinniped.address(), acme.address())?;
    let mut router = Router::start(&files, options)?;
    let seen = self_check::both_modes(&certificates, options.listen)?;
    screen::show(options, &folder, &files, &seen);
    while !stop.arrived()? {
        router.must_be_running()?;
    }
    println!("\nstopping");
    router.stop()
}

fn must_be_free(address: SocketAddr, option: &str) -> Result<()> {
    if let Err(error) = TcpListener::bind(address) {
        let other = SocketAddr::new(address.ip(), address.port().wrapping_add(1000));
        bail!("{address}: {error}; choose another address: cargo xtask run {option} {other}");
    }
    Ok(())
}

/// The passthrough tenant's name for its clients.
const PASSTHROUGH_NAME: &str = "k8s.demo.example";
/// One of the terminated tenant's names.
const TERMINATED_NAME: &str = "api.acme.example";
/// What the demo client's certificate says that it is.
const CLIENT_NAME: &str = "demo-client";
