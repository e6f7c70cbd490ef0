//! A plain HTTP/1.1 backend, as it stands behind a terminated tenant.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::Result;
use serde_json::json;

use super::Server;
use crate::http::{read_request, respond};

/// Answers each request with its own name and the request line.
pub struct PlainHttp(Server);

impl PlainHttp {
    /// Starts on a free port.
    pub fn start(name: &str) -> Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), name)
    }

    /// Starts on this address.
    pub fn start_on(address: SocketAddr, name: &str) -> Result<Self> {
        let name = name.to_owned();
        Server::start_on(address, move |stream| answer(stream, &name)).map(Self)
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

fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let Some(request) = read_request(&mut stream)? else { return Ok(()) };
    respond(&mut stream, &json!({ "backend": name, "request": request }))
}
