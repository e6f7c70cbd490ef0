//! What a client connects to and how it begins: with a ClientHello that nobody on the way can answer, or with a
//! handshake and a request.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup, ServerConfig, SignatureScheme, StreamOwned,
};
use tests::authority::{Authority, Identity, KeyKind};
use tests::tls_client::TlsClient;

use crate::cell::{Mode, Service};

/// Everything that clients need, made once; and the certificate that all servers show.
pub(crate) struct Clients {
    /// ECDSA on P-256, for the terminated names.
    pub(crate) certificate: Identity,
    hellos: TlsClient,
    x25519: Arc<ClientConfig>,
    post_quantum: Arc<ClientConfig>,
}

impl Clients {
    pub(crate) fn new() -> Result<Self> {
        let authority = Authority::new("side-by-side CA")?;
        let names = Service::ALL.map(|service| service.host(Mode::Terminate));
        Ok(Self {
            certificate: authority.server(&names.each_ref().map(String::as_str), KeyKind::Ecdsa)?,
            hellos: TlsClient::trusting(&authority)?.with_alpn(&["h2", "http/1.1"]),
            x25519: client_config(NamedGroup::X25519)?,
            post_quantum: client_config(NamedGroup::X25519MLKEM768)?,
        })
    }

    /// The first bytes of a connection to this service.
    pub(crate) fn opening(&self, mode: Mode, service: Service, key_exchange: KeyExchange) -> Result<Opening> {
        let host = service.host(mode);
        match mode {
            Mode::Passthrough => Ok(Opening::Hello(self.hellos.first_flight(&host)?)),
            Mode::Terminate => {
                let config = match key_exchange {
                    KeyExchange::X25519 => &self.x25519,
                    KeyExchange::PostQuantum => &self.post_quantum,
                };
                let name = ServerName::try_from(host).context("a service's name")?;
                Ok(Opening::Handshake { config: Arc::clone(config), name })
            }
        }
    }

    /// How many bytes of each connection a backend reads before it serves.
    pub(crate) fn preamble(&self, mode: Mode, service: Service) -> Result<usize> {
        match self.opening(mode, service, KeyExchange::X25519)? {
            Opening::Hello(hello) => Ok(hello.len()),
            Opening::Handshake { .. } => Ok(REQUEST.len()),
        }
    }

    /// A backend that terminates TLS itself.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>> {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.leaf()], self.certificate.key()?)?;
        Ok(Arc::new(config))
    }
}

/// The group that a client insists on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyExchange {
    /// What all servers here have.
    X25519,
    /// X25519MLKEM768.
    PostQuantum,
}

/// How a connection begins.
#[derive(Clone, Debug)]
pub(crate) enum Opening {
    /// A real client's ClientHello with the name to route by; the backend takes it as so many bytes.
    Hello(Vec<u8>),
    /// A full TLS 1.3 handshake, then [`REQUEST`].
    Handshake {
        /// Resumes nothing and checks no certificate: the servers' cost is what is measured.
        config: Arc<ClientConfig>,
        /// The name to route by.
        name: ServerName<'static>,
    },
}

/// Where, and how to begin there.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) opening: Opening,
}

impl Target {
    /// Connects and sends the opening. Reads and writes fail after a time instead of hanging.
    pub(crate) fn connect(&self) -> io::Result<Connection> {
        let mut socket = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        match &self.opening {
            Opening::Hello(hello) => {
                socket.write_all(hello)?;
                Ok(Connection::Plain(socket))
            }
            Opening::Handshake { config, name } => {
                let session = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(session, Buffered(BufReader::with_capacity(BUFFER_BYTES, socket)));
                stream.write_all(&REQUEST)?;
                Ok(Connection::Tls(Box::new(stream)))
            }
        }
    }
}

/// An established connection whose opening has been sent.
pub(crate) enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, Buffered>>),
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A socket that is read in large pieces: rustls asks for 4 KiB at a time, which would make the client the bottleneck.
pub(crate) struct Buffered(BufReader<TcpStream>);

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

fn client_config(group: NamedGroup) -> Result<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups.retain(|offered| offered.name() == group);
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .context("client configuration")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsEverybody(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Checks no certificate: the servers' cost is what is measured.
pub(crate) fn trusting_everybody(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(TrustsEverybody(provider))
}

/// Spares the load generator, which shares the processor with the servers, two signature checks per connection.
#[derive(Debug)]
struct TrustsEverybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustsEverybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What a client of a terminated name sends first.
pub(crate) const REQUEST: [u8; 64] = [b'q'; 64];
/// Far longer than anything takes here that succeeds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Several of the largest segments that veth and loopback carry.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;
