//! The same rustls, the same settings and the same relay as a terminator's, in one process that accepts connections itself
//! and holds all keys: what sni-router would be without isolation.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use connection::relay::{Layered, RelayContext, RelayPolicy, SharedSocket, Traffic, relay_stream};
use connection::{dial, reset::close_will_reset};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

use super::Key;

/// Serves until the process is ended.
pub(super) fn serve(backend: SocketAddr, folder: &Path, listen: &[SocketAddr]) -> Result<()> {
    let configs: Vec<(SocketAddr, Arc<ServerConfig>)> = Key::ALL
        .into_iter()
        .zip(listen)
        .map(|(key, address)| Ok((*address, Arc::new(config(folder, key)?))))
        .collect::<Result<_>>()?;
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let configs = configs.clone();
            thread::spawn(move || worker(&configs, backend))
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| anyhow!("a worker panicked"))??;
    }
    Ok(())
}

/// What `terminator/src/tls_config.rs` makes of `minVersion: "1.3"`.
fn config(folder: &Path, key: Key) -> Result<ServerConfig> {
    let read = |ending: &str| {
        let path = folder.join(format!("{}.{ending}", key.label()));
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    };
    let chain = CertificateDer::pem_slice_iter(&read("crt")?).collect::<Result<Vec<_>, _>>().context("certificate")?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(&read("key")?).context("key")?)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

fn worker(configs: &[(SocketAddr, Arc<ServerConfig>)], backend: SocketAddr) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    LocalSet::new().block_on(&runtime, async {
        let relay = RelayContext::new(RelayPolicy::Copy);
        let mut listening = Vec::new();
        for (address, config) in configs {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseport(true)?;
            socket.bind(*address).with_context(|| format!("bind {address}"))?;
            let acceptor = TlsAcceptor::from(Arc::clone(config));
            listening.push(spawn_local(accept(socket.listen(BACKLOG)?, acceptor, relay.clone(), backend)));
        }
        for listener in listening {
            listener.await??;
        }
        Ok(())
    })
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    relay: RelayContext,
    backend: SocketAddr,
) -> std::io::Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        spawn_local(connection(client, acceptor.clone(), relay.clone(), backend));
    }
}

async fn connection(client: TcpStream, acceptor: TlsAcceptor, relay: RelayContext, backend: SocketAddr) {
    if client.set_nodelay(true).is_err() {
        return;
    }
    let socket = SharedSocket::new(client);
    let Ok(stream) = acceptor.accept(socket.clone()).await else { return };
    match dial(backend, DIAL_LIMIT).await {
        Ok(backend) => {
            let client = Layered { stream, socket };
            let traffic = Traffic::default();
            relay_stream(&relay, client, backend, IDLE_LIMIT, &traffic, std::future::pending()).await;
        }
        Err(_) => close_will_reset(&socket),
    }
}

/// As many as everybody else has.
const WORKERS: usize = 2;
const BACKLOG: u32 = 1024;
const DIAL_LIMIT: Duration = Duration::from_secs(3);
const IDLE_LIMIT: Duration = Duration::from_secs(600);
