//! A rustls client inside the test: it can send its first flight in every way and tell what was negotiated.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{
    ClientConfig, ClientConnection, NamedGroup, RootCertStore, StreamOwned, SupportedCipherSuite,
    SupportedProtocolVersion,
};

use crate::authority::{Authority, Identity};
use crate::deliver::{Delivery, deliver};
use crate::http::{Response, get};
use crate::patience::PATIENCE;

/// An established connection; reads and writes are plaintext.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// What a client trusts, shows and offers.
#[derive(Clone)]
pub struct TlsClient {
    roots: RootCertStore,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: CryptoProvider,
}

impl TlsClient {
    /// Trusts this authority, shows no certificate, offers everything that rustls has, X25519MLKEM768 first.
    pub fn trusting(authority: &Authority) -> Result<Self> {
        Ok(Self::with_roots(authority.roots()?))
    }

    /// The same with the CAs of a PEM bundle.
    pub fn trusting_bundle(pem: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.context("read a CA")?).context("trust a CA")?;
        }
        Ok(Self::with_roots(roots))
    }

    fn with_roots(roots: RootCertStore) -> Self {
        Self {
            roots,
            identity: None,
            alpn: Vec::new(),
            versions: rustls::ALL_VERSIONS.to_vec(),
            provider: aws_lc_rs::default_provider(),
        }
    }

    /// Shows this certificate when it is asked for one.
    #[must_use]
    pub fn with_identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Offers these protocols.
    #[must_use]
    pub fn with_alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Offers only this version.
    #[must_use]
    pub fn only(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    /// Offers only these cipher suites; under TLS 1.2 they choose the key type of the server's certificate.
    #[must_use]
    pub fn only_suites(mut self, wanted: impl Fn(&SupportedCipherSuite) -> bool) -> Self {
        self.provider.cipher_suites.retain(wanted);
        self
    }

    /// Does not offer this group.
    #[must_use]
    pub fn without_group(mut self, group: NamedGroup) -> Self {
        self.provider.kx_groups.retain(|offered| offered.name() != group);
        self
    }

    /// Connects and completes the handshake.
    pub fn connect(&self, address: SocketAddr, server_name: &str) -> Result<TlsStream> {
        self.connect_delivering(address, server_name, Delivery::Whole)
    }

    /// The same, with the first flight sent in this way.
    pub fn connect_delivering(&self, address: SocketAddr, server_name: &str, how: Delivery) -> Result<TlsStream> {
        self.handshake(tcp(address)?, server_name, how)
    }

    /// Completes a handshake on a connected socket.
    pub fn handshake(&self, mut socket: TcpStream, server_name: &str, how: Delivery) -> Result<TlsStream> {
        let mut connection = self.connection(server_name)?;
        let mut flight = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut flight).context("make the ClientHello")?;
        }
        deliver(&socket, &flight, how).with_context(|| format!("send the ClientHello for {server_name}"))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).with_context(|| format!("handshake with {server_name}"))?;
        }
        Ok(StreamOwned::new(connection, socket))
    }

    /// One request on a connection of its own, which is ended in order.
    pub fn get(&self, address: SocketAddr, server_name: &str, path: &str) -> Result<Response> {
        let mut stream = self.connect(address, server_name)?;
        let response = get(&mut stream, server_name, path)?;
        stream.conn.send_close_notify();
        // The other side may have closed already, and then nobody misses it.
        let _ = stream.flush();
        Ok(response)
    }

    /// The first flight alone.
    pub fn first_flight(&self, server_name: &str) -> Result<Vec<u8>> {
        let mut connection = self.connection(server_name)?;
        let mut flight = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut flight).context("make the ClientHello")?;
        }
        Ok(flight)
    }

    fn connection(&self, server_name: &str) -> Result<ClientConnection> {
        let builder = ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(&self.versions)
            .context("client configuration")?
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            Some(identity) => builder
                .with_client_auth_cert(vec![identity.leaf()], identity.key()?)
                .context("the client's certificate")?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.clone();
        config.resumption = Resumption::disabled();
        let server_name = server_name.to_owned().try_into().with_context(|| format!("server name {server_name}"))?;
        ClientConnection::new(Arc::new(config), server_name).context("client connection")
    }
}

/// The group that the key exchange of an established connection used.
pub fn key_exchange(stream: &TlsStream) -> Option<NamedGroup> {
    stream.conn.negotiated_key_exchange_group().map(|group| group.name())
}

/// A connected socket whose operations fail after a generous time instead of hanging a test.
pub fn tcp(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("connect to {address}"))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}
