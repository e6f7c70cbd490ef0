//! Sends back what it receives; an end of the stream too.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use anyhow::Result;

use super::Server;

/// A backend that echoes bytes.
pub struct Echo(Server);

impl Echo {
    /// Starts on a free port.
    pub fn start() -> Result<Self> {
        Server::start(echo).map(Self)
    }

    /// Starts on this address.
    pub fn start_on(address: SocketAddr) -> Result<Self> {
        Server::start_on(address, echo).map(Self)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// How many connections it accepted.
    pub fn accepted(&self) -> u64 {
        self.0.accepted()
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        stream.write_all(&buffer[..read])?;
    }
}
