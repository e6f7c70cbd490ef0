//! Moves a lot of bytes and reports the hash of what it received and sent, with a half-close at a chosen end.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use super::Server;
use crate::patience::PATIENCE;
use crate::stream_of_bytes::{Digested, receive, send};

/// Who half-closes first, and so which direction has to outlive the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The backend sends nothing before it has seen the client's end of stream.
    ClientFirst,
    /// The backend sends and ends its direction at once; the client sends nothing before it has seen that.
    BackendFirst,
    /// Both directions at the same time.
    Together,
}

/// A backend that sends `bytes` bytes and hashes what it receives.
pub struct Bulk {
    server: Server,
    reports: Mutex<Receiver<io::Result<(Digested, Digested)>>>,
}

impl Bulk {
    /// Starts on a free port.
    pub fn start(turn: Turn, bytes: u64) -> Result<Self> {
        let (report, reports) = channel();
        let server = Server::start(move |stream| serve(stream, turn, bytes, &report))?;
        Ok(Self { server, reports: Mutex::new(reports) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What the next connection to end had received, and what was sent to it.
    pub fn report(&self) -> Result<(Digested, Digested)> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        match reports.recv_timeout(PATIENCE) {
            Ok(report) => report.context("the backend's end of the transfer"),
            Err(RecvTimeoutError::Timeout) => anyhow::bail!("the backend's transfer did not end"),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the backend is gone"),
        }
    }
}

fn serve(
    stream: TcpStream,
    turn: Turn,
    bytes: u64,
    report: &Sender<io::Result<(Digested, Digested)>>,
) -> io::Result<()> {
    let transfer = || -> io::Result<(Digested, Digested)> {
        let sending = || {
            let sent = send(&mut &stream, b"", 0, BACKEND_SEED, bytes)?;
            stream.shutdown(Shutdown::Write)?;
            Ok(sent)
        };
        match turn {
            Turn::ClientFirst => {
                let received = receive(&mut &stream)?;
                Ok((received, sending()?))
            }
            Turn::BackendFirst => {
                let sent = sending()?;
                Ok((receive(&mut &stream)?, sent))
            }
            Turn::Together => thread::scope(|scope| {
                let sent = scope.spawn(sending);
                let received = receive(&mut &stream)?;
                Ok((received, sent.join().unwrap_or_else(|_| Err(io::Error::other("the sending thread panicked")))?))
            }),
        }
    };
    // A scenario that does not ask has dropped the receiving end.
    let _ = report.send(transfer());
    Ok(())
}

const BACKEND_SEED: u64 = 2;
