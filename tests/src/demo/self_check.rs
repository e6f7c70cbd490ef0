//! One real request through each mode, so that the demo never claims what does not work.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::files::Certificates;
use super::{CLIENT_NAME, PASSTHROUGH_NAME, TERMINATED_NAME};
use crate::http;
use crate::tls_client::{TlsClient, key_exchange};

/// What the requests brought back.
pub(super) struct Seen {
    /// The client's identity as the passthrough backend saw it.
    pub(super) client_name: String,
    /// The key exchange of the terminated connection.
    pub(super) key_exchange: String,
}

/// Both have to work.
pub(super) fn both_modes(certificates: &Certificates, router: SocketAddr) -> Result<Seen> {
    let client = TlsClient::trusting(&certificates.authority)?;
    Ok(Seen {
        client_name: passthrough(certificates, &client, router).context("check of the passthrough tenant")?,
        key_exchange: terminate(&client, router).context("check of the terminated tenant")?,
    })
}

fn passthrough(certificates: &Certificates, client: &TlsClient, router: SocketAddr) -> Result<String> {
    let seen = client.clone().with_identity(&certificates.client).get(router, PASSTHROUGH_NAME, "/")?.json()?;
    ensure!(seen["commonName"] == CLIENT_NAME, "the backend saw {seen}");
    ensure!(seen["sha256"] == certificates.client.sha256(), "the backend saw another certificate: {seen}");
    Ok(CLIENT_NAME.to_owned())
}

fn terminate(client: &TlsClient, router: SocketAddr) -> Result<String> {
    let mut stream = client.connect(router, TERMINATED_NAME)?;
    let shown = stream.conn.peer_certificates().and_then(|chain| chain.first()).cloned();
    ensure!(shown.is_some(), "the terminator showed no certificate");
    let group = key_exchange(&stream).context("no key exchange")?;
    let answer = http::get(&mut stream, TERMINATED_NAME, "/")?.json()?;
    ensure!(answer["backend"] == "acme", "the backend answered {answer}");
    Ok(format!("{group:?}"))
}
