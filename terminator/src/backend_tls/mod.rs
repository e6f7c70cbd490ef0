//! TLS towards the tenant's backends: the terminator as a client that trusts only what the tenant says.
//! Shakes hands on a connection that somebody else has dialled; reads no file.

mod failure;
mod verifier;

use std::sync::Arc;

use config::{BackendTls, TlsVersion};
use connection::backends::Endpoint;
use connection::relay::{Layered, SharedSocket};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use self::failure::{BackendReason, BackendTlsFailure};
use self::verifier::BackendVerifier;
use crate::certificates::{ServedCertificate, with_refused};

/// An encrypted connection to a backend.
pub(crate) type BackendStream = Layered<TlsStream<SharedSocket>>;

/// What backends are trusted by and what they are shown. Replaced whole when a file changes.
#[derive(Clone)]
pub(crate) struct BackendConnector {
    connector: TlsConnector,
    /// `None` means the backend's own name or, without one, its address.
    server_name: Option<ServerName<'static>>,
    pass_alpn: bool,
    /// What a backend is shown that asks for a certificate.
    pub(crate) client_certificate: Option<ServedCertificate>,
}

impl std::fmt::Debug for BackendConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendConnector").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl BackendConnector {
    /// Puts together what was read from files.
    pub(crate) fn new(
        settings: &BackendTls,
        cas: &[CertificateDer<'static>],
        client_certificate: Option<ServedCertificate>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        let server_name = match &settings.server_name {
            Some(name) => Some(
                ServerName::try_from(name.as_str().to_owned())
                    .map_err(|error| rustls::Error::General(format!("backendTls.serverName: {error}")))?,
            ),
            None => None,
        };
        let verifier = BackendVerifier::new(cas, &settings.pins, server_name.is_some(), provider)?;
        let versions = match settings.min_version {
            TlsVersion::V1_2 => &[&TLS13, &TLS12][..],
            TlsVersion::V1_3 => &[&TLS13][..],
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &client_certificate {
            Some(certificate) => {
                let resolver = SingleCertAndKey::from(Arc::clone(&certificate.certified_key));
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
            None => builder.with_no_client_auth(),
        };
        // A resumed session shows no certificate: its end, other CAs and other pins would be missed.
        config.resumption = Resumption::disabled();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            server_name,
            pass_alpn: settings.pass_alpn,
            client_certificate,
        })
    }

    /// Shakes hands with the backend on a connection to it. `alpn` is what was agreed upon with the client.
    pub(crate) async fn connect(
        &self,
        tcp: TcpStream,
        backend: &Endpoint,
        alpn: Option<&[u8]>,
        deadline: Instant,
    ) -> Result<BackendStream, BackendTlsFailure> {
        let socket = SharedSocket::new(tcp);
        let name = self.server_name.clone().unwrap_or_else(|| own_name(backend));
        let alpn = alpn.filter(|_| self.pass_alpn);
        let offer = alpn.map(<[u8]>::to_vec).into_iter().collect();
        let handshake = self.connector.with_alpn(offer).connect(name, socket.clone());
        let (handshake, refused) = with_refused(timeout_at(deadline, handshake)).await;
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(BackendTlsFailure { refused, ..error.into() }),
            Err(_elapsed) => {
                let words = "not complete within this backend's share of connectTimeout".to_owned();
                return Err(BackendTlsFailure { reason: BackendReason::Timeout, words, refused: None });
            }
        };
        match alpn {
            // A server that knows no ALPN speaks HTTP/1.1; everything else has to be agreed upon (RFC 9113 section 3.2).
            Some(wanted) if wanted != b"http/1.1" && stream.get_ref().1.alpn_protocol() != Some(wanted) => {
                let words = format!(
                    "the client speaks {}, and the backend did not agree to it",
                    String::from_utf8_lossy(wanted)
                );
                Err(BackendTlsFailure { reason: BackendReason::NoApplicationProtocol, words, refused: None })
            }
            _ => Ok(Layered { stream, socket }),
        }
    }
}

/// What a backend is asked for, and what a CA has to vouch for, where the tenant says nothing else.
fn own_name(backend: &Endpoint) -> ServerName<'static> {
    let name = backend.name.as_ref().and_then(|name| ServerName::try_from(name.host().as_str().to_owned()).ok());
    name.unwrap_or_else(|| ServerName::from(backend.address.ip()))
}
