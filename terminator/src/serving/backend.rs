//! The way to a backend: the connection, the PROXY header, TLS where the tenant says so; for clients and for probes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::TcpSettings;
use connection::backends::{ConnectProbe, Endpoint, Probe};
use connection::silence::watch_over;
use connection::{DialError, SourceSocket, dial_announced};
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::backend_tls::{BackendConnector, BackendReason, BackendStream, BackendTlsFailure};
use crate::counters::WorkerCounters;
use crate::live_tls::LiveTls;

/// A backend that is ready for the client's bytes.
#[derive(Debug)]
pub(super) enum Backend {
    Plain(TcpStream),
    Tls(Box<BackendStream>),
}

/// How one connection, or one probe, gets to a backend.
#[derive(Debug)]
pub(super) struct Way<'a> {
    /// `None` for plaintext.
    pub(super) connector: Option<Arc<BackendConnector>>,
    /// What the backend gets ahead of everything else.
    pub(super) header: &'a [u8],
    /// What was agreed upon with the client.
    pub(super) alpn: Option<Vec<u8>>,
    /// Where the backend is to see the client's own address.
    pub(super) source: Option<SourceSocket>,
    /// For the socket.
    pub(super) tcp: TcpSettings,
    pub(super) counters: &'a WorkerCounters,
}

impl Way<'_> {
    /// Goes there. `refused` hears of TLS that failed, before the caller goes on to another backend.
    pub(super) async fn go(
        &self,
        endpoint: &Endpoint,
        time_limit: Duration,
        refused: impl Fn(SocketAddr, &BackendTlsFailure),
    ) -> Result<Backend, DialError> {
        let deadline = Instant::now() + time_limit;
        let backend = endpoint.address;
        let tcp = match &self.source {
            Some(source) => source.dial(backend, time_limit, self.header).await?,
            None => dial_announced(backend, time_limit, self.header).await?,
        };
        watch_over(&tcp, &self.tcp).map_err(|error| DialError::new(backend, error))?;
        let Some(connector) = &self.connector else { return Ok(Backend::Plain(tcp)) };
        match connector.connect(tcp, endpoint, self.alpn.as_deref(), deadline).await {
            Ok(stream) => {
                self.counters.backend_handshake(None);
                Ok(Backend::Tls(Box::new(stream)))
            }
            Err(failure) => {
                self.counters.backend_handshake(Some(failure.reason));
                refused(backend, &failure);
                Err(DialError::Tls { address: backend, words: failure.to_string() })
            }
        }
    }
}

/// Health checks: as a client's connection goes to the backend, and no further.
#[derive(Clone, Debug)]
pub(super) struct BackendProbe {
    pub(super) header: ConnectProbe,
    pub(super) tls: Arc<LiveTls>,
    pub(super) counters: Arc<WorkerCounters>,
}

impl Probe for BackendProbe {
    async fn ask(&self, backend: &Endpoint, time_limit: Duration) -> Result<(), DialError> {
        let deadline = Instant::now() + time_limit;
        let connector = self.tls.current().backend.clone();
        let way = Way {
            connector,
            header: self.header.header(),
            alpn: None,
            source: None,
            tcp: TcpSettings::default(),
            counters: &self.counters,
        };
        let refused = |backend, failure: &BackendTlsFailure| debug!(%backend, %failure, "a probe's TLS failed");
        match way.go(backend, time_limit, refused).await? {
            Backend::Plain(_) => Ok(()),
            Backend::Tls(stream) => listen_for_an_alert(*stream, backend.address, deadline).await,
        }
    }
}

/// Under TLS 1.3 a backend that refuses our certificate says so after the handshake (RFC 8446 section 4.4.2.4). One that
/// has no objection answers the end with its own end, or with nothing.
async fn listen_for_an_alert(
    mut stream: BackendStream,
    backend: SocketAddr,
    deadline: Instant,
) -> Result<(), DialError> {
    let mut answer = [0; 512];
    let end = async {
        stream.stream.shutdown().await?;
        while stream.stream.read(&mut answer).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    match timeout_at(deadline, end).await {
        Ok(Err(error)) if is_an_objection(&error) => {
            Err(DialError::Tls { address: backend, words: format!("{}: {error}", BackendReason::Alert.label()) })
        }
        _ => Ok(()),
    }
}

fn is_an_objection(error: &std::io::Error) -> bool {
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(alert, Some(rustls::Error::AlertReceived(alert)) if *alert != AlertDescription::UserCanceled)
}
