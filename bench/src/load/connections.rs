//! Many short connections at a time: connect, opening, answer or exchange, end.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::{Tally, Window};
use crate::backend::{ANSWER, FLIGHT_BYTES, REQUEST_BYTES, RESPONSE_BYTES};
use crate::target::{Opening, PATIENCE, REQUEST, Target};

/// Each with one short answer.
pub(super) fn answers(target: &Arc<Target>, window: &Arc<Window>) -> Result<Tally> {
    load(target, window, Talk::Answer)
}

/// Each with messages to and fro.
pub(super) fn exchanges(target: &Arc<Target>, window: &Arc<Window>) -> Result<Tally> {
    load(target, window, Talk::Exchange)
}

/// What is said between the opening and the end.
#[derive(Clone, Copy, Debug)]
enum Talk {
    Answer,
    Exchange,
}

/// Keeps [`AT_ONCE`] connections going until the window closes.
fn load(target: &Arc<Target>, window: &Arc<Window>, talk: Talk) -> Result<Tally> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| event_loop(target, window, talk))).collect();
        let mut tally = Tally::default();
        for thread in threads {
            tally.add(thread.join().unwrap_or_else(|_| bail!("an event loop panicked"))?);
        }
        Ok(tally)
    })
}

fn event_loop(target: &Arc<Target>, window: &Arc<Window>, talk: Talk) -> Result<Tally> {
    let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let mut clients: JoinSet<Tally> =
            (0..AT_ONCE / THREADS).map(|_| client(Arc::clone(target), Arc::clone(window), talk)).collect();
        let mut tally = Tally::default();
        while let Some(ended) = clients.join_next().await {
            tally.add(ended.context("a client")?);
        }
        Ok(tally)
    })
}

async fn client(target: Arc<Target>, window: Arc<Window>, talk: Talk) -> Tally {
    let mut tally = Tally::default();
    while !window.is_closed() {
        let failed = match timeout(PATIENCE, once(&target, talk)).await {
            Ok(Ok(())) => {
                tally.amount += u64::from(window.is_open());
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tally.failed(&failed);
        sleep(ERROR_PAUSE).await;
    }
    tally
}

async fn once(target: &Target, talk: Talk) -> io::Result<()> {
    let mut socket = TcpStream::connect(target.address).await?;
    match &target.opening {
        Opening::Hello(hello) => {
            socket.write_all(hello).await?;
            finish(&mut socket, talk).await
        }
        Opening::Handshake { config, name } => {
            socket.set_nodelay(true)?;
            let connector = TlsConnector::from(Arc::clone(config));
            let mut stream = connector.connect(name.clone(), socket).await?;
            stream.write_all(&REQUEST).await?;
            stream.flush().await?;
            finish(&mut stream, talk).await
        }
    }
}

async fn finish(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), talk: Talk) -> io::Result<()> {
    match talk {
        Talk::Answer => read_answer(stream).await,
        Talk::Exchange => {
            let mut buffer = [0; FLIGHT_BYTES];
            stream.read_exact(&mut buffer).await?;
            stream.write_all(&[b'q'; REQUEST_BYTES]).await?;
            stream.flush().await?;
            stream.read_exact(&mut buffer[..RESPONSE_BYTES]).await?;
            Ok(())
        }
    }
}

/// Reads to the end of the stream, which must be the answer's.
async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = [0; ANSWER.len() + 1];
    let mut length = 0;
    loop {
        match stream.read(&mut buffer[length..]).await {
            Ok(0) => break,
            Ok(read) => length += read,
            // Not every TLS server says close_notify before its FIN.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    if buffer[..length] == ANSWER { Ok(()) } else { Err(io::Error::other(format!("{length} bytes of an answer"))) }
}

/// As many as a few browsers open.
const AT_ONCE: usize = 32;
/// Clients of TLS have work for more than one core.
const THREADS: usize = 2;
/// Keeps a router that refuses everything from looking fast.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
