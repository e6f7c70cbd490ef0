//! A backend that terminates mutual TLS itself: it demands a client certificate and answers with the identity in it.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Server;
use crate::authority::{Authority, Identity, hex_sha256};
use crate::http::{read_request, respond};

/// Speaks HTTP/1.1 over mutual TLS; the answer is JSON with `commonName`, `sha256` (of the DER leaf), `serverName`,
/// `keyExchange` and `version`.
pub struct IdentityBackend(Server);

impl IdentityBackend {
    /// Starts on a free port, serving `server`, trusting clients of `clients`.
    pub fn start(name: &str, server: &Identity, clients: &Authority) -> Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), name, server, clients)
    }

    /// Starts on this address.
    pub fn start_on(address: SocketAddr, name: &str, server: &Identity, clients: &Authority) -> Result<Self> {
        let verifier = WebPkiClientVerifier::builder(Arc::new(clients.roots()?)).build().context("client verifier")?;
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![server.leaf()], server.key()?)
            .context("certificate of the identity backend")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (name, config) = (name.to_owned(), Arc::new(config));
        Server::start_on(address, move |stream| answer(stream, &name, Arc::clone(&config))).map(Self)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// How many connections it accepted.
    pub fn accepted(&self) -> u64 {
        self.0.accepted()
    }
}

fn answer(stream: TcpStream, name: &str, config: Arc<ServerConfig>) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    if read_request(&mut tls)?.is_none() {
        return Ok(());
    }
    let seen = identity_seen(&tls.conn, name);
    respond(&mut tls, &seen)?;
    tls.conn.send_close_notify();
    tls.flush()?;
    tls.sock.shutdown(Shutdown::Write)?;
    // A close before the client's own close_notify would answer that with a RST.
    io::copy(&mut tls.sock, &mut io::sink()).map(|_| ())
}

fn identity_seen(connection: &ServerConnection, name: &str) -> Value {
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    json!({
        "backend": name,
        "commonName": leaf.and_then(|leaf| common_name(leaf)),
        "sha256": leaf.map(|leaf| hex_sha256(leaf)),
        "serverName": connection.server_name(),
        "keyExchange": connection.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())),
        "version": connection.protocol_version().map(|version| format!("{version:?}")),
    })
}

fn common_name(leaf: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}
