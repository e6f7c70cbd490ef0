//! What all terminators hand the plaintext to: reads the request, answers, closes. One event loop, so that it takes as
//! little of the processor as it can.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use super::{ANSWER, REQUEST};

/// Serves until the process ends.
pub(super) fn start(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("bind {address}"))?;
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    thread::Builder::new().name("backend".to_owned()).spawn(move || runtime.block_on(serve(listener)))?;
    Ok(())
}

async fn serve(listener: TcpListener) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        // A client that is gone before it is accepted is no reason to stop.
        if let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection));
        }
    }
}

async fn answer(mut connection: TcpStream) -> io::Result<()> {
    connection.read_exact(&mut [0; REQUEST.len()]).await?;
    connection.write_all(&ANSWER).await?;
    connection.shutdown().await?;
    // A close before the other side's end would be a RST.
    tokio::io::copy(&mut connection, &mut tokio::io::sink()).await.map(drop)
}
