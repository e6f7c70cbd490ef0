//! The services for long connections: download and echo, a blocking thread for each connection.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tests::fakes::Server;

use crate::target::BUFFER_BYTES;

/// Listens in the place of the calling thread.
pub(super) fn start(
    address: SocketAddr,
    preamble: usize,
    tls: Option<Arc<ServerConfig>>,
    serve: fn(&mut dyn Stream) -> io::Result<()>,
) -> Result<Server> {
    Server::start_on(address, move |mut socket| {
        let mut tls_stream;
        let stream: &mut dyn Stream = match &tls {
            None => &mut socket,
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                tls_stream = StreamOwned::new(session, socket);
                &mut tls_stream
            }
        };
        io::copy(&mut Read::take(&mut *stream, preamble as u64), &mut io::sink())?;
        serve(stream)
    })
}

/// Sends until the client has had enough.
pub(super) fn download(stream: &mut dyn Stream) -> io::Result<()> {
    let chunk = vec![b'd'; BUFFER_BYTES];
    loop {
        stream.write_all(&chunk)?;
    }
}

/// Sends back what comes.
pub(super) fn echo(stream: &mut dyn Stream) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..read])?;
        stream.flush()?;
    }
}

/// Plain or TLS.
pub(super) trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}
