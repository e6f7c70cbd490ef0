//! A client that sends bytes as they are and reports how the other side answered.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;

use crate::tls_client::tcp;

/// One TCP connection.
pub struct RawClient {
    stream: TcpStream,
}

impl RawClient {
    /// Connects; reads and writes fail after a generous time instead of hanging a test.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        tcp(address).map(Self::from)
    }

    /// Sends these bytes in one write.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        (&self.stream).write_all(bytes).context("send")
    }

    /// Ends the own direction.
    pub fn finish(&self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).context("half-close")
    }

    /// Ends the connection with a RST.
    pub fn reset(self) -> Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).context("linger 0")
    }

    /// Reads exactly this many bytes.
    pub fn read(&self, bytes: usize) -> Result<Vec<u8>> {
        let mut read = vec![0; bytes];
        (&self.stream).read_exact(&mut read).context("read")?;
        Ok(read)
    }

    /// Reads until the other side ends the connection.
    pub fn answer(&self) -> Answer {
        let mut bytes = Vec::new();
        let end = match (&self.stream).read_to_end(&mut bytes) {
            Ok(_) => End::Closed,
            Err(error) => End::of(&error),
        };
        Answer { bytes, end }
    }

    /// The socket, for what this type has no word for.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl From<TcpStream> for RawClient {
    fn from(stream: TcpStream) -> Self {
        Self { stream }
    }
}

/// All that the other side sent, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Everything that arrived.
    pub bytes: Vec<u8>,
    /// What came after it.
    pub end: End,
}

impl Answer {
    /// The description of a fatal alert, if the answer is exactly one plaintext alert record (RFC 8446 section 6).
    pub fn alert(&self) -> Option<u8> {
        match self.bytes.as_slice() {
            [ALERT_RECORD, 3, _, 0, 2, FATAL, description] => Some(*description),
            _ => None,
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With FIN.
    Closed,
    /// With RST.
    Reset,
    /// Not at all within the time limit.
    StillOpen,
    /// In a way that no scenario expects.
    Failed(ErrorKind),
}

impl End {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset => Self::Reset,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::StillOpen,
            other => Self::Failed(other),
        }
    }
}

/// RFC 8446 section 5.1.
const ALERT_RECORD: u8 = 21;
/// RFC 8446 section 6.
const FATAL: u8 = 2;
