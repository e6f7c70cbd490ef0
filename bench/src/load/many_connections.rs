//! The measures that have several established connections at a time.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::one_connection::{ERROR_PAUSE, MESSAGE_BYTES, download};
use super::{Tally, Window};
use crate::cell::{MANY_BULK, MANY_PING_PONG};
use crate::target::{Connection, Target};

/// [`MANY_BULK`] downloads, each on a thread that does nothing else.
pub(super) fn downloads(target: &Arc<Target>, window: &Arc<Window>) -> Result<Tally> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..MANY_BULK).map(|_| scope.spawn(|| download(target, window))).collect();
        let mut tally = Tally::default();
        for thread in threads {
            tally.add(thread.join().unwrap_or_else(|_| bail!("a client panicked"))?);
        }
        Ok(tally)
    })
}

/// One message at a time on each of [`MANY_PING_PONG`] connections, from one event loop.
pub(super) fn ping_pongs(target: &Arc<Target>, window: &Arc<Window>) -> Result<Tally> {
    let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let mut clients: JoinSet<Tally> =
            (0..MANY_PING_PONG).map(|_| client(Arc::clone(target), Arc::clone(window))).collect();
        let mut tally = Tally::default();
        while let Some(ended) = clients.join_next().await {
            tally.add(ended.context("a client")?);
        }
        Ok(tally)
    })
}

async fn client(target: Arc<Target>, window: Arc<Window>) -> Tally {
    let mut tally = Tally::default();
    while !window.is_closed() {
        if let Err(error) = ping_pong(&target, &window, &mut tally).await {
            tally.failed(&error);
            sleep(ERROR_PAUSE).await;
        }
    }
    tally
}

async fn ping_pong(target: &Target, window: &Window, tally: &mut Tally) -> io::Result<()> {
    let Connection::Plain(socket) = target.connect()? else {
        return Err(io::Error::other("many connections at a time are measured without TLS"));
    };
    socket.set_nonblocking(true)?;
    let mut socket = TcpStream::from_std(socket)?;
    let mut message = [b'p'; MESSAGE_BYTES];
    while !window.is_closed() {
        let start = Instant::now();
        socket.write_all(&message).await?;
        socket.read_exact(&mut message).await?;
        if window.is_open() {
            tally.amount += 1;
            tally.latencies.push(start.elapsed());
        }
    }
    Ok(())
}
