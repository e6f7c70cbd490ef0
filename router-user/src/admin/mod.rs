//! The HTTP endpoint: health, readiness, metrics, status; at an address and at a socket of the runtimeDir, which also takes
//! commands for the supervisor. A thread of its own, so that a slow scrape costs no client.

mod pages;
mod prober;
mod socket;
mod terminators;

use std::cell::Cell;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;
use tracing::{debug, info, warn};

use self::pages::Way;
use self::prober::Prober;
pub use self::socket::{admin_socket, bind_socket, put_socket_in_place};
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
    pub(crate) source: io::Error,
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

/// The sockets of the endpoint.
#[derive(Debug)]
pub struct AdminSockets {
    /// At `admin.address`, where the configuration has one.
    pub address: Option<TcpListener>,
    /// In the runtimeDir, where that can be written to.
    pub socket: Option<UnixListener>,
}

impl AdminSockets {
    /// Binds the one in the runtimeDir, beside its place. Without it the router goes on, and says so. Where no supervisor
    /// does it when the router serves, it is put in its place at once.
    pub fn beside(address: Option<TcpListener>, config: &Config, is_supervised: bool) -> Self {
        let socket = bind_socket(&config.runtime_dir).and_then(|socket| match is_supervised {
            true => Ok(socket),
            false => put_socket_in_place(&config.runtime_dir).map(|()| socket),
        });
        if let Err(error) = &socket {
            let path = admin_socket(&config.runtime_dir);
            warn!(socket = %path.display(), %error, "no admin socket");
        }
        Self { address, socket: socket.ok() }
    }
}

/// Starts the endpoint's thread; it lives as long as the process.
pub fn spawn(sockets: AdminSockets, state: AdminState) -> io::Result<()> {
    if let Some(socket) = &sockets.address {
        info!(address = %socket.local_addr()?, "admin endpoint");
    }
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, serve(sockets, state))
    })?;
    Ok(())
}

async fn serve(sockets: AdminSockets, state: AdminState) -> io::Result<()> {
    let others = Rc::new(Others::default());
    others.watch(&state.shared.policy.current());
    tokio::task::spawn_local(keep_watching(others.clone(), state.shared.policy.follow()));
    let desk = Rc::new(Desk { state, others, permits: Arc::new(Semaphore::new(MAX_CONNECTIONS as usize)) });
    let address = sockets.address.map(tokio::net::TcpListener::from_std).transpose()?;
    let socket = sockets.socket.map(tokio::net::UnixListener::from_std).transpose()?;
    let at_address = async {
        match &address {
            Some(listener) => accept_all(&desk, Way::Address, async || Ok(listener.accept().await?.0)).await,
            None => pending().await,
        }
    };
    let at_socket = async {
        match &socket {
            Some(listener) => {
                accept_all(&desk, Way::Socket, async || -> io::Result<UnixStream> { Ok(listener.accept().await?.0) })
                    .await
            }
            None => pending().await,
        }
    };
    let leaving = async {
        desk.state.shared.hand_over.begun().await;
        tokio::time::sleep(LAST_ARRIVALS).await;
    };
    // What is dropped waits for connections: those that come from here on are the next router's.
    tokio::select! {
        _ = async { tokio::join!(at_address, at_socket) } => {}
        () = leaving => {}
    }
    drop((address, socket));
    if desk.permits.acquire_many(MAX_CONNECTIONS).await.is_ok() {
        desk.state.shared.hand_over.all_are_answered();
    }
    Ok(())
}

/// What all connections of the endpoint share.
struct Desk {
    state: AdminState,
    others: Rc<Others>,
    permits: Arc<Semaphore>,
}

/// The processes that are asked.
#[derive(Debug, Default)]
struct Others {
    terminators: Terminators,
    prober: Prober,
}

impl Others {
    fn watch(&self, policy: &Policy) {
        self.terminators.watch(policy);
        self.prober.watch(policy);
    }
}

async fn accept_all<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    desk: &Rc<Desk>,
    way: Way,
    accept: impl AsyncFn() -> io::Result<S>,
) {
    while let Ok(permit) = desk.permits.clone().acquire_owned().await {
        let stream = match accept().await {
            Ok(stream) => stream,
            Err(error) => {
                debug!(%error, "admin: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let desk = Rc::clone(desk);
        tokio::task::spawn_local(async move {
            if let Err(error) = talk(&desk, way, stream).await {
                debug!(%error, "admin: connection");
            }
            drop(permit);
        });
    }
}

/// Answers the requests of one connection until its client goes, or until another router has this one's place.
async fn talk<S: AsyncRead + AsyncWrite + Unpin + 'static>(desk: &Rc<Desk>, way: Way, stream: S) -> hyper::Result<()> {
    let hand_over = &desk.state.shared.hand_over;
    let was_asked = Rc::new(Cell::new(false));
    let service = service_fn(|request| {
        let (desk, was_asked) = (Rc::clone(desk), Rc::clone(&was_asked));
        async move {
            was_asked.set(true);
            let mut page = pages::answer(&desk.state, &desk.others, &request, way).await;
            if desk.state.shared.hand_over.is_begun() {
                page.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(page)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // Both may be dropped: the connection is borrowed, the other looks at a value.
    tokio::select! {
        ended = &mut connection => return ended,
        () = hand_over.begun() => {}
    }
    // It would close one whose first request is still on its way; that one is answered, and closed then.
    if was_asked.get() {
        connection.as_mut().graceful_shutdown();
    }
    connection.await
}

async fn keep_watching(others: Rc<Others>, mut policy: watch::Receiver<Arc<Policy>>) {
    while policy.changed().await.is_ok() {
        let policy = policy.borrow_and_update().clone();
        others.watch(&policy);
    }
}

/// Scrapers and people: a handful of connections; more wait.
const MAX_CONNECTIONS: u32 = 64;

/// After an accept that failed for lack of descriptors, as on the main path.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Clients that had found the former router's socket in the runtimeDir have been let in by then.
const LAST_ARRIVALS: Duration = Duration::from_millis(10);

/// A client of the endpoint must send its request head within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
