//! Keeps every byte that it receives until the client's end of stream; sends nothing.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use super::Server;
use crate::patience::PATIENCE;

/// A backend that records.
pub struct Recorder {
    server: Server,
    recordings: Mutex<Receiver<Recording>>,
}

/// One connection as the backend saw it.
#[derive(Debug)]
pub struct Recording {
    /// All bytes that arrived.
    pub bytes: Vec<u8>,
    /// How the client's direction ended; `ConnectionReset` for a RST.
    pub end: io::Result<()>,
}

impl Recorder {
    /// Starts on a free port.
    pub fn start() -> Result<Self> {
        Self::serving(|_| Ok(()))
    }

    /// Ends its own direction as soon as the first bytes are there, and records on.
    pub fn start_half_closing() -> Result<Self> {
        Self::serving(|stream| {
            stream.peek(&mut [0])?;
            stream.shutdown(Shutdown::Write)
        })
    }

    fn serving(begin: fn(&TcpStream) -> io::Result<()>) -> Result<Self> {
        let (report, recordings) = channel();
        let server = Server::start(move |stream| {
            begin(&stream)?;
            record(stream, &report)
        })?;
        Ok(Self { server, recordings: Mutex::new(recordings) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How many connections it accepted.
    pub fn accepted(&self) -> u64 {
        self.server.accepted()
    }

    /// The next connection to end.
    pub fn recording(&self) -> Result<Recording> {
        let recordings = self.recordings.lock().unwrap_or_else(PoisonError::into_inner);
        recordings.recv_timeout(PATIENCE).context("no connection to the recorder ended")
    }
}

fn record(mut stream: TcpStream, report: &Sender<Recording>) -> io::Result<()> {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).map(|_| ());
    // A scenario that does not ask has dropped the receiving end.
    let _ = report.send(Recording { bytes, end });
    Ok(())
}
