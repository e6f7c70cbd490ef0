//! The read-only HTTP endpoint: health, readiness, metrics. A thread of its own, so that a slow scrape costs no client.

mod pages;
mod terminators;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;
use tracing::{debug, info};

use self::terminators::Terminators;
use crate::metrics::WorkerCounters;
use crate::router::{Policy, Shared};

/// What the pages are made from.
#[derive(Debug)]
pub struct AdminState {
    shared: Arc<Shared>,
    counters: Vec<Arc<WorkerCounters>>,
}

/// The endpoint's address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("admin: bind {address}: {source}")]
pub struct AdminBindError {
    address: SocketAddr,
    source: io::Error,
}

impl AdminState {
    /// The state of a router whose workers count in `counters`.
    pub fn new(shared: Arc<Shared>, counters: Vec<Arc<WorkerCounters>>) -> Self {
        Self { shared, counters }
    }
}

/// Binds the endpoint's socket.
pub fn bind(address: SocketAddr) -> Result<TcpListener, AdminBindError> {
    let bound = TcpListener::bind(address).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    bound.map_err(|source| AdminBindError { address, source })
}

/// Starts the endpoint's thread; it lives as long as the process.
pub fn spawn(socket: TcpListener, state: AdminState) -> io::Result<()> {
    info!(address = %socket.local_addr()?, "admin endpoint");
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, serve(socket, Rc::new(state)))
    })?;
    Ok(())
}

async fn serve(socket: TcpListener, state: Rc<AdminState>) -> io::Result<()> {
    let socket = tokio::net::TcpListener::from_std(socket)?;
    let terminators = Rc::new(Terminators::default());
    terminators.watch(&state.shared.policy.current());
    tokio::task::spawn_local(keep_watching(terminators.clone(), state.shared.policy.follow()));
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "admin: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (state, terminators) = (state.clone(), terminators.clone());
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let (state, terminators) = (state.clone(), terminators.clone());
                async move { Ok::<_, Infallible>(pages::answer(&state, &terminators, &request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                debug!(%error, "admin: connection");
            }
            drop(permit);
        });
    }
}

async fn keep_watching(terminators: Rc<Terminators>, mut policy: watch::Receiver<Arc<Policy>>) {
    while policy.changed().await.is_ok() {
        let policy = policy.borrow_and_update().clone();
        terminators.watch(&policy);
    }
}

/// Scrapers and people: a handful of connections; more wait.
const MAX_CONNECTIONS: usize = 64;

/// After an accept that failed for lack of descriptors, as on the main path.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A client of the endpoint must send its request head within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
