//! Answers the first bytes with a RST.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use socket2::SockRef;

use super::Server;

/// A backend that resets.
pub struct Resetting(Server);

impl Resetting {
    /// Starts on a free port.
    pub fn start() -> Result<Self> {
        Server::start(reset).map(Self)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

fn reset(mut stream: TcpStream) -> io::Result<()> {
    let read = stream.read(&mut [0; 16 * 1024])?;
    if read == 0 {
        return Ok(());
    }
    // Closing with a linger time of zero sends RST instead of FIN (tcp(7), socket(7)).
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}
