//! The clients: each connects, shakes hands, asks, reads the answer and leaves, again and again. Those that resume keep
//! the tickets of the connection before.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, HandshakeKind, NamedGroup};
use tests::network::Place;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::{ANSWER, Key, Kind, REQUEST};
use crate::target::{PATIENCE, trusting_everybody};

/// What one measurement gave.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// Handshakes, each with a request and an answer, per second.
    pub(super) per_second: f64,
    /// Processor time of the server's processes for each.
    pub(super) cpu: Option<Duration>,
    /// Connections that failed, or were not of the kind that was asked for.
    pub(super) errors: u64,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicBool,
    closed: AtomicBool,
    done: AtomicU64,
    errors: AtomicU64,
}

/// Loads the server from `place` and counts for `duration` after a warm-up.
pub(super) fn measure(
    place: &Place,
    address: SocketAddr,
    key: Key,
    kind: Kind,
    duration: Duration,
    cpu: impl Fn() -> Result<Duration>,
) -> Result<Measured> {
    let counts = Arc::new(Counts::default());
    thread::scope(|scope| {
        let load = scope.spawn(|| place.run(|| run(address, key, kind, &counts)));
        thread::sleep(WARM_UP);
        let (before, opened) = (cpu()?, Instant::now());
        counts.open.store(true, Ordering::SeqCst);
        thread::sleep(duration);
        counts.open.store(false, Ordering::SeqCst);
        let (elapsed, after) = (opened.elapsed(), cpu()?);
        counts.closed.store(true, Ordering::SeqCst);
        load.join().unwrap_or_else(|_| bail!("a client panicked"))?;
        let done = counts.done.load(Ordering::SeqCst);
        let cpu = u32::try_from(done).ok().and_then(|done| after.saturating_sub(before).checked_div(done));
        let errors = counts.errors.load(Ordering::SeqCst);
        Ok(Measured { per_second: done as f64 / elapsed.as_secs_f64(), cpu, errors })
    })
}

fn run(address: SocketAddr, key: Key, kind: Kind, counts: &Arc<Counts>) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| event_loop(address, key, kind, counts))).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|_| bail!("an event loop panicked"))?;
        }
        Ok(())
    })
}

fn event_loop(address: SocketAddr, key: Key, kind: Kind, counts: &Arc<Counts>) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let mut clients = JoinSet::new();
        for _ in 0..AT_ONCE / THREADS {
            clients.spawn(client(connector(kind)?, address, key, kind, Arc::clone(counts)));
        }
        clients.join_all().await;
        Ok(())
    })
}

/// One for each client: tickets are for one use, and nobody takes another's.
fn connector(kind: Kind) -> Result<TlsConnector> {
    let mut provider = aws_lc_rs::default_provider();
    // What all servers here have.
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(trusting_everybody(provider))
        .with_no_client_auth();
    config.resumption = match kind {
        Kind::Full => Resumption::disabled(),
        Kind::Resumed => Resumption::in_memory_sessions(4),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn client(connector: TlsConnector, address: SocketAddr, key: Key, kind: Kind, counts: Arc<Counts>) {
    let wanted = match kind {
        Kind::Full => HandshakeKind::Full,
        Kind::Resumed => HandshakeKind::Resumed,
    };
    // The first connection brings the ticket for the second.
    let mut has_ticket = kind == Kind::Full;
    while !counts.closed.load(Ordering::SeqCst) {
        let result = timeout(PATIENCE, once(&connector, address, key)).await;
        if !counts.open.load(Ordering::SeqCst) || !has_ticket {
            has_ticket |= matches!(result, Ok(Ok(_)));
            continue;
        }
        if matches!(result, Ok(Ok(Some(kind))) if kind == wanted) {
            counts.done.fetch_add(1, Ordering::Relaxed);
        } else {
            counts.errors.fetch_add(1, Ordering::Relaxed);
            sleep(ERROR_PAUSE).await;
        }
    }
}

async fn once(connector: &TlsConnector, address: SocketAddr, key: Key) -> io::Result<Option<HandshakeKind>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(key.host()).map_err(io::Error::other)?;
    let mut stream = connector.connect(name, socket).await?;
    stream.write_all(&REQUEST).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(ANSWER.len());
    match stream.read_to_end(&mut answer).await {
        Ok(_) => {}
        // Not every server says close_notify before its FIN.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error),
    }
    let kind = stream.get_ref().1.handshake_kind();
    if answer == ANSWER { Ok(kind) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// As many as a few browsers open.
const AT_ONCE: usize = 32;
/// Clients of TLS have work for more than one core.
const THREADS: usize = 2;
/// Until caches are warm.
const WARM_UP: Duration = Duration::from_millis(300);
/// Keeps a server that refuses everything from looking fast.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
