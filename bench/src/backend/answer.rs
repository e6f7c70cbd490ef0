//! The service for short connections: reads the client's first bytes, answers, closes. One event loop, because a
//! thread per connection would cost more than the router does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;

/// Listens in the place of the calling thread until the process ends.
pub(super) fn start(address: SocketAddr, preamble: usize, tls: Option<Arc<ServerConfig>>) -> Result<()> {
    // A handshake is work for more than one core, a plain answer is not.
    let runtime = match tls {
        Some(_) => Builder::new_multi_thread().worker_threads(TLS_THREADS).enable_all().build(),
        None => Builder::new_current_thread().enable_all().build(),
    };
    let runtime = runtime.context("start a runtime")?;
    let listener = runtime.block_on(async { listen(address) }).with_context(|| format!("listen on {address}"))?;
    thread::spawn(move || runtime.block_on(accept_all(listener, preamble, tls.map(TlsAcceptor::from))));
    Ok(())
}

async fn accept_all(listener: TcpListener, preamble: usize, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let tls = tls.clone();
        // What fails here fails at the client too, which counts it.
        tokio::spawn(async move {
            match tls {
                None => serve(socket, preamble).await,
                Some(acceptor) => {
                    socket.set_nodelay(true)?;
                    serve(acceptor.accept(socket).await?, preamble).await
                }
            }
        });
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, preamble: usize) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut left = preamble;
    while left > 0 {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left = left.saturating_sub(read);
    }
    stream.write_all(&ANSWER).await?;
    stream.shutdown().await
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What a short connection gets.
pub(crate) const ANSWER: [u8; 64] = [b'a'; 64];

const TLS_THREADS: usize = 2;
/// The kernel's own bound, net.core.somaxconn.
const BACKLOG: u32 = 4096;
