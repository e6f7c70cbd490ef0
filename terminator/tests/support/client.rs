//! A TLS client that can be told what to offer and that says what it got.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::patience::soon;
use super::pki::Pair;

pub(crate) const TLS_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(crate) const TLS_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What the client offers. It trusts every certificate: what is served is for the test to look at.
pub(crate) struct Client {
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) schemes: Vec<SignatureScheme>,
    pub(crate) certificate: Option<Pair>,
    pub(crate) alpn: Vec<Vec<u8>>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            versions: rustls::ALL_VERSIONS,
            schemes: aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes(),
            certificate: None,
            alpn: Vec::new(),
        }
    }
}

impl Client {
    fn config(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAll(self.schemes.clone())));
        let mut config = match &self.certificate {
            Some(pair) => builder
                .with_client_auth_cert(
                    CertificateDer::pem_slice_iter(pair.chain_pem.as_bytes()).map(Result::unwrap).collect(),
                    PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap(),
                )
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }

    /// A connector that keeps sessions and tickets from one connection to the next.
    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::new(self.config()))
    }

    pub(crate) async fn connect(&self, tcp: TcpStream, server_name: &str) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(self.config()));
        let server_name = ServerName::try_from(server_name.to_owned()).unwrap();
        soon("the handshake ends", connector.connect(server_name, tcp)).await
    }

    /// The alert by which the server ends the handshake; in TLS 1.3 it may come after the client's part is done.
    pub(crate) async fn alert(&self, tcp: TcpStream, server_name: &str) -> u8 {
        let error = match self.connect(tcp, server_name).await {
            Ok(mut stream) => soon("the server answers", stream.read(&mut [0; 1])).await.unwrap_err(),
            Err(error) => error,
        };
        alert_number(&error).unwrap_or_else(|| panic!("no alert: {error}"))
    }
}

/// The number of the alert behind an error.
pub(crate) fn alert_number(error: &io::Error) -> Option<u8> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(AlertDescription::into(*alert)),
        _ => None,
    }
}

/// Sends a word and waits for it to come back.
pub(crate) async fn echo(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    stream.write_all(b"echo").await?;
    let mut back = [0; 4];
    soon("the echo comes back", stream.read_exact(&mut back)).await?;
    assert_eq!(&back, b"echo");
    Ok(())
}

#[derive(Debug)]
struct TrustAll(Vec<SignatureScheme>);

impl ServerCertVerifier for TrustAll {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
