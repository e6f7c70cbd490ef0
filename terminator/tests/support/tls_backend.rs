//! A backend that speaks TLS: sends everything back, and tells what was agreed upon and who connected.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::pki::{Authority, Pair};

/// What the backend is.
pub(crate) struct TlsBackend {
    pub(crate) pair: Pair,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) alpn: &'static [&'static str],
    /// The CA of clients, who then must show a certificate.
    pub(crate) clients: Option<String>,
    /// Sent back to each connection's first bytes, before a FIN that no close_notify announces.
    pub(crate) cut_after: Option<&'static [u8]>,
    /// How many bytes come ahead of the hello.
    pub(crate) preamble: usize,
}

/// A handshake as the backend saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) server_name: Option<String>,
    pub(crate) alpn: Option<String>,
    pub(crate) client: Option<Vec<u8>>,
    pub(crate) preamble: Vec<u8>,
}

/// The running backend.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

impl TlsBackend {
    pub(crate) fn new(pair: &Pair) -> Self {
        Self {
            pair: pair.clone(),
            versions: rustls::ALL_VERSIONS,
            alpn: &[],
            clients: None,
            cut_after: None,
            preamble: 0,
        }
    }

    fn config(&self) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(self.versions).unwrap();
        let builder = match &self.clients {
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let chain = CertificateDer::pem_slice_iter(self.pair.chain_pem.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(self.pair.key_pem.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    /// Serves for the rest of the test.
    pub(crate) async fn start(self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let running = Running {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            config: Arc::new(Mutex::new(Arc::new(self.config()))),
        };
        let own = running.clone();
        let (preamble, cut_after) = (self.preamble, self.cut_after);
        tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let own = own.clone();
                tokio::spawn(async move {
                    let mut ahead = vec![0; preamble];
                    if tcp.read_exact(&mut ahead).await.is_err() {
                        return;
                    }
                    let config = Arc::clone(&own.config.lock().unwrap());
                    let Ok(mut stream) = TlsAcceptor::from(config).accept(tcp).await else { return };
                    own.note(stream.get_ref().1, ahead);
                    let mut bytes = [0; 4096];
                    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                        if let Some(answer) = cut_after {
                            stream.write_all(answer).await.unwrap();
                            stream.flush().await.unwrap();
                            return stream.get_mut().0.shutdown().await.unwrap();
                        }
                        if stream.write_all(&bytes[..length]).await.is_err() {
                            return;
                        }
                    }
                    // The client may be gone already.
                    let _ = stream.shutdown().await;
                });
            }
        });
        running
    }
}

impl Running {
    /// What the last connection was.
    pub(crate) fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().cloned().unwrap_or_default()
    }

    /// From here on the backend is this one.
    pub(crate) fn become_(&self, backend: &TlsBackend) {
        *self.config.lock().unwrap() = Arc::new(backend.config());
    }

    fn note(&self, connection: &rustls::ServerConnection, preamble: Vec<u8>) {
        self.seen.lock().unwrap().push(Seen {
            server_name: connection.server_name().map(str::to_owned),
            alpn: connection.alpn_protocol().map(|alpn| String::from_utf8_lossy(alpn).into_owned()),
            client: connection.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec()),
            preamble,
        });
    }
}

/// What a tenant with such an authority writes for TLS to its backends.
pub(crate) fn trusting(folder: &std::path::Path, authority: &Authority, more: &str) -> String {
    let ca = folder.join("backend-ca.crt");
    std::fs::write(&ca, authority.ca_pem()).unwrap();
    format!("backendTls: {{ serverName: svc.internal, ca: ['{}']{more} }}", ca.display())
}
