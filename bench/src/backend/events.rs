//! The services whose connections are many: short answers and echoes. Event loops, because a thread per connection would
//! cost more than the router does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;

/// What is done with a connection behind the client's first bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Serve {
    /// Send [`ANSWER`] and close.
    Answer,
    /// Send back what comes.
    Echo,
    /// Send [`FLIGHT_BYTES`], wait for [`REQUEST_BYTES`], send [`RESPONSE_BYTES`] and close.
    Exchange,
}

/// Listens in the place of the calling thread until the process ends.
pub(super) fn start(address: SocketAddr, preamble: usize, tls: Option<Arc<ServerConfig>>, serve: Serve) -> Result<()> {
    // A handshake is work for more than one core, a plain answer is not.
    let runtime = match tls {
        Some(_) => Builder::new_multi_thread().worker_threads(TLS_THREADS).enable_all().build(),
        None => Builder::new_current_thread().enable_all().build(),
    };
    let runtime = runtime.context("start a runtime")?;
    let listener = runtime.block_on(async { listen(address) }).with_context(|| format!("listen on {address}"))?;
    thread::spawn(move || runtime.block_on(accept_all(listener, preamble, tls.map(TlsAcceptor::from), serve)));
    Ok(())
}

async fn accept_all(listener: TcpListener, preamble: usize, tls: Option<TlsAcceptor>, serve: Serve) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        // What fails here fails at the client too, which counts it.
        tokio::spawn(connection(socket, preamble, tls.clone(), serve));
    }
}

async fn connection(socket: TcpStream, preamble: usize, tls: Option<TlsAcceptor>, serve: Serve) -> io::Result<()> {
    match (tls, serve) {
        (None, Serve::Answer) => answer(socket, preamble).await,
        (None, Serve::Echo) => {
            socket.set_nodelay(true)?;
            echo(socket, preamble).await
        }
        (None, Serve::Exchange) => {
            socket.set_nodelay(true)?;
            exchange(socket, preamble).await
        }
        (Some(acceptor), serve) => {
            socket.set_nodelay(true)?;
            let stream = acceptor.accept(socket).await?;
            match serve {
                Serve::Answer => answer(stream, preamble).await,
                Serve::Echo => echo(stream, preamble).await,
                Serve::Exchange => exchange(stream, preamble).await,
            }
        }
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, preamble: usize) -> io::Result<()> {
    skip(&mut stream, preamble).await?;
    stream.write_all(&ANSWER).await?;
    stream.shutdown().await
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, preamble: usize) -> io::Result<()> {
    skip(&mut stream, preamble).await?;
    let mut buffer = [0; ECHO_BYTES];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..read]).await?;
        stream.flush().await?;
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, preamble: usize) -> io::Result<()> {
    skip(&mut stream, preamble).await?;
    stream.write_all(&[b'f'; FLIGHT_BYTES]).await?;
    stream.flush().await?;
    skip(&mut stream, REQUEST_BYTES).await?;
    stream.write_all(&[b'r'; RESPONSE_BYTES]).await?;
    stream.shutdown().await
}

async fn skip(stream: &mut (impl AsyncRead + Unpin), bytes: usize) -> io::Result<()> {
    let mut buffer = [0; ECHO_BYTES];
    let mut left = bytes;
    while left > 0 {
        // Nobody sends more before there is an answer, but an echo must not lose it.
        let most = left.min(buffer.len());
        let read = stream.read(&mut buffer[..most]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= read;
    }
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What a short connection gets.
pub(crate) const ANSWER: [u8; 64] = [b'a'; 64];

/// ServerHello to Finished with a chain of two ECDSA certificates.
pub(crate) const FLIGHT_BYTES: usize = 2048;
/// Finished and a small HTTP request.
pub(crate) const REQUEST_BYTES: usize = 512;
/// Two session tickets and a small response.
pub(crate) const RESPONSE_BYTES: usize = 1536;

/// Eight times a ping-pong's message; part of every connection's task.
const ECHO_BYTES: usize = 4096;
const TLS_THREADS: usize = 2;
/// The kernel's own bound, net.core.somaxconn.
const BACKLOG: u32 = 4096;
