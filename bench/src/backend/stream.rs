//! The service for downloads: a blocking thread for each connection.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tests::fakes::Server;

use crate::target::BUFFER_BYTES;

/// Listens in the place of the calling thread.
pub(super) fn start(address: SocketAddr, preamble: usize, tls: Option<Arc<ServerConfig>>) -> Result<Server> {
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
        download(stream)
    })
}

/// Sends until the client has had enough.
fn download(stream: &mut dyn Stream) -> io::Result<()> {
    let chunk = vec![b'd'; BUFFER_BYTES];
    loop {
        stream.write_all(&chunk)?;
    }
}

/// Plain or TLS.
trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}
