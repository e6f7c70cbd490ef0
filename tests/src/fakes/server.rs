//! The accept loop that all fakes share.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use socket2::{Domain, SockRef, Socket, Type};

use crate::patience::PATIENCE;

/// Listens on 127.0.0.1 until it is dropped; connections that it accepted before go on to their own end.
pub struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicU64>,
    listener: TcpListener,
    accept_loop: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves each connection with `serve` on a thread of its own. An I/O error there is the client's or the
    /// router's doing: the scenario sees it from its own end.
    pub fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), serve)
    }

    /// The same, on this address.
    pub fn start_on(
        address: SocketAddr,
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = listen(address).with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr().context("address of a fake")?;
        let accepted = Arc::new(AtomicU64::new(0));
        let accept_loop = {
            let (listener, accepted, serve) = (listener.try_clone()?, Arc::clone(&accepted), Arc::new(serve));
            thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    let serve = Arc::clone(&serve);
                    thread::spawn(move || {
                        let limited = stream.set_read_timeout(Some(PATIENCE * 4));
                        limited.and_then(|()| stream.set_nodelay(true)).and_then(|()| serve(stream))
                    });
                }
            })
        };
        Ok(Self { address, accepted, listener, accept_loop: Some(accept_loop) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // shutdown(2) on a listening socket ends a blocked accept(2) with EINVAL on Linux.
        let woken = SockRef::from(&self.listener).shutdown(Shutdown::Read).is_ok();
        if let (true, Some(accept_loop)) = (woken, self.accept_loop.take()) {
            let _ = accept_loop.join();
        }
    }
}

/// `TcpListener::bind` listens with a backlog of 128, which bursts of short connections overrun.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}
