//! A router with a tenant of each mode, both in front of an echo, and one established connection of each.

use std::io::{Read, Write};
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tests::authority::{Authority, KeyKind};
use tests::fakes::Echo;
use tests::hello::Hello;
use tests::patience::{PATIENCE, eventually};
use tests::raw_client::{Answer, RawClient};
use tests::router_process::RouterProcess;
use tests::setup::{Setup, Tenant};
use tests::tls_client::{TlsClient, TlsStream};

use crate::two_tenants::{PASSTHROUGH, TERMINATE};

pub(super) struct Scene {
    pub(super) router: RouterProcess,
    pub(super) client: TlsClient,
    passthrough: RawClient,
    terminated: TlsStream,
    _echo: Echo,
}

impl Scene {
    pub(super) fn start() -> Self {
        let authority = Authority::new("scenario CA").unwrap();
        let echo = Echo::start().unwrap();
        let router = RouterProcess::start(setup(&authority, echo.address())).unwrap();
        let client = TlsClient::trusting(&authority).unwrap();
        let passthrough = passthrough(router.address()).unwrap();
        let terminated = terminated(&client, router.address()).unwrap();
        Self { router, client, passthrough, terminated, _echo: echo }
    }

    /// What was established before goes on, without new descriptors, ports or memory.
    pub(super) fn ping_established(&mut self) {
        ping(&mut self.passthrough.stream()).unwrap();
        ping(&mut self.terminated).unwrap();
    }

    /// Both modes work, as soon as whatever was lacking is back.
    pub(super) fn assert_recovered(&mut self) {
        self.ping_established();
        let address = self.router.address();
        eventually(PATIENCE, "passthrough works again", || passthrough(address).ok()).unwrap();
        eventually(PATIENCE, "terminate works again", || terminated(&self.client, address).ok()).unwrap();
    }

    pub(super) fn assert_counted(&self, name: &str, labels: &[(&str, &str)]) {
        self.router.wait_for_metric(name, labels, 1.0).unwrap();
    }

    /// Tries until a connection to this name ends with the alert of a failure.
    pub(super) fn until_an_alert(&self, name: &str) {
        let attempt = || (refused(self.router.address(), name).ok()?.alert() == Some(INTERNAL_ERROR)).then_some(());
        eventually(PATIENCE, "an alert", attempt).unwrap();
    }
}

/// One worker, so that all connections are its.
pub(super) fn setup(authority: &Authority, echo: SocketAddr) -> Setup {
    let certificate = authority.server(&[TERMINATE], KeyKind::Ecdsa).unwrap();
    Setup::new()
        .line("workers: 1")
        .listener_line("clientHello: { timeout: 1m }")
        .tenant(Tenant::passthrough("pinniped", &[PASSTHROUGH], echo))
        .tenant(Tenant::terminate("acme", &[TERMINATE], echo, &certificate))
}

/// A passthrough connection whose echo has come.
pub(super) fn passthrough(address: SocketAddr) -> Result<RawClient> {
    let client = RawClient::connect(address)?;
    let hello = Hello::named(PASSTHROUGH).records();
    client.send(&hello)?;
    ensure!(client.read(hello.len())? == hello);
    Ok(client)
}

/// A terminated connection whose echo has come.
pub(super) fn terminated(client: &TlsClient, address: SocketAddr) -> Result<TlsStream> {
    let mut stream = client.connect(address, TERMINATE)?;
    ping(&mut stream)?;
    Ok(stream)
}

/// What a connection ends with, that the client ends too.
pub(super) fn refused(address: SocketAddr, name: &str) -> Result<Answer> {
    let client = RawClient::connect(address)?;
    client.send(&Hello::named(name).records())?;
    client.finish()?;
    Ok(client.answer())
}

pub(super) fn ping(stream: &mut (impl Read + Write)) -> Result<()> {
    stream.write_all(b"ping")?;
    stream.flush()?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    ensure!(&answer == b"ping");
    Ok(())
}

/// RFC 8446 section 6.2.
const INTERNAL_ERROR: u8 = 80;
