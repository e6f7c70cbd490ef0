//! A backend that shows a certificate, which can be another one from the next connection on, and takes note of who looks.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Server;
use crate::authority::{Authority, Identity};

/// Speaks TLS 1.2 and 1.3 and answers nothing.
pub struct ShopWindow {
    server: Server,
    shared: Arc<Shared>,
}

/// What one connection was seen to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What came ahead of the hello.
    pub header: Vec<u8>,
    /// Whom it asked for.
    pub server_name: Option<String>,
    /// Bytes of application data.
    pub bytes: usize,
}

struct Shared {
    config: Mutex<Arc<ServerConfig>>,
    looks: Mutex<Vec<Look>>,
    header_length: usize,
}

impl ShopWindow {
    /// Starts on a free port. `clients`: whose certificates it demands, where it does. Each connection begins with a
    /// header of so many bytes.
    pub fn start(shown: &Identity, clients: Option<&Authority>, header_length: usize) -> Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), shown, clients, header_length)
    }

    /// Starts on this address.
    pub fn start_on(
        address: SocketAddr,
        shown: &Identity,
        clients: Option<&Authority>,
        header_length: usize,
    ) -> Result<Self> {
        let config = Mutex::new(config(shown, clients)?);
        let shared = Arc::new(Shared { config, looks: Mutex::default(), header_length });
        let serving = Arc::clone(&shared);
        let server = Server::start_on(address, move |stream| serving.serve(stream))?;
        Ok(Self { server, shared })
    }

    /// Shows another certificate from the next connection on, to everybody.
    pub fn show(&self, shown: &Identity) -> Result<()> {
        *self.shared.config.lock().unwrap_or_else(PoisonError::into_inner) = config(shown, None)?;
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How many connections it accepted.
    pub fn accepted(&self) -> u64 {
        self.server.accepted()
    }

    /// The connections that have ended.
    pub fn looks(&self) -> Vec<Look> {
        self.shared.looks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn config(shown: &Identity, clients: Option<&Authority>) -> Result<Arc<ServerConfig>> {
    let builder = match clients {
        Some(clients) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(clients.roots()?)).build();
            ServerConfig::builder().with_client_cert_verifier(verifier.context("client verifier")?)
        }
        None => ServerConfig::builder().with_no_client_auth(),
    };
    let config = builder.with_single_cert(vec![shown.leaf()], shown.key()?);
    Ok(Arc::new(config.context("certificate of the shop window")?))
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut look = Look { header: vec![0; self.header_length], ..Look::default() };
        stream.read_exact(&mut look.header)?;
        let config = Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner));
        let mut tls = StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, stream);
        let mut buffer = [0; 1024];
        // Ends with the handshake's failure, or with the client's farewell.
        while let Ok(count @ 1..) = tls.read(&mut buffer) {
            look.bytes += count;
        }
        look.server_name = tls.conn.server_name().map(str::to_owned);
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).push(look);
        Ok(())
    }
}
