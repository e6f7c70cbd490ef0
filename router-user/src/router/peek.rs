//! The peek step: waits for a whole ClientHello without taking a byte out of the socket. Owns the worker's peek buffer.

use std::cell::RefCell;
use std::io;

use client_hello::{ClientHelloParser, Malformed, NotTls, Parse};
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::socket_options::set_receive_low_water_mark;

/// Peeks for one listener on one worker. The buffer is shared by all its connections: it is borrowed only inside one
/// system call and the parse that follows, never across an await.
#[derive(Debug)]
pub struct Peeker {
    state: RefCell<PeekState>,
    with_ja4: bool,
}

/// What a whole hello said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The name as the client sent it; it is a valid host name.
    pub server_name: Option<Box<str>>,
    /// The first [`MAX_ALPN`] ALPN protocols (RFC 7301), in the client's order.
    pub alpn: Vec<String>,
    /// JA4 fingerprint, when the access log wants it.
    pub ja4: Option<String>,
    /// Bytes on the wire, record headers included.
    pub bytes: usize,
}

/// Why there is no hello.
#[derive(Debug, thiserror::Error)]
pub enum PeekError {
    /// The bytes are TLS but no valid ClientHello.
    #[error("malformed ClientHello: {0}")]
    Malformed(Malformed),
    /// The bytes are not TLS.
    #[error("not TLS: {0:?}")]
    NotTls(NotTls),
    /// The hello is longer than the listener's `maxBytes`.
    #[error("ClientHello longer than clientHello.maxBytes")]
    TooLarge,
    /// The client ended its side first.
    #[error("closed before the ClientHello was whole")]
    Closed,
    /// The socket failed.
    #[error("peek: {0}")]
    Socket(io::Error),
}

#[derive(Debug)]
struct PeekState {
    buffer: Box<[u8]>,
    parser: ClientHelloParser,
}

enum Step {
    Done(Result<Hello, PeekError>),
    Wait { needed: usize },
}

impl Peeker {
    /// A peeker for hellos of up to `max_bytes`.
    pub fn new(max_bytes: usize, with_ja4: bool) -> Self {
        let state = PeekState { buffer: vec![0; max_bytes].into(), parser: ClientHelloParser::new(max_bytes) };
        Self { state: RefCell::new(state), with_ja4 }
    }

    /// Waits until the hello is whole or can no longer become one. The socket stays unread. The caller sets the
    /// deadline; dropping the future leaves nothing behind but the low-water mark of a socket that is then closed.
    pub async fn peek(&self, stream: &TcpStream) -> Result<Hello, PeekError> {
        let mut low_water_mark = 1;
        loop {
            let ready = stream.ready(Interest::READABLE).await.map_err(PeekError::Socket)?;
            let mut wanted = 0;
            let step = stream.try_io(Interest::READABLE, || match self.step(stream) {
                // WouldBlock clears the readiness, so that the next turn sleeps until the kernel has news.
                Ok(Step::Wait { needed }) => {
                    wanted = needed;
                    Err(io::ErrorKind::WouldBlock.into())
                }
                Ok(Step::Done(result)) => Ok(result),
                Err(error) => Err(error),
            });
            match step {
                Ok(result) => {
                    if low_water_mark != 1 {
                        set_receive_low_water_mark(stream, 1).map_err(PeekError::Socket)?;
                    }
                    return result;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The peek came after the readiness was sampled, so it saw all that was sent before the FIN.
                    if ready.is_read_closed() {
                        return Err(PeekError::Closed);
                    }
                    if wanted > low_water_mark {
                        low_water_mark = wanted;
                        set_receive_low_water_mark(stream, wanted).map_err(PeekError::Socket)?;
                    }
                }
                Err(error) => return Err(PeekError::Socket(error)),
            }
        }
    }

    fn step(&self, stream: &TcpStream) -> io::Result<Step> {
        let state = &mut *self.state.borrow_mut();
        let (_, length) = rustix::net::recv(stream, &mut state.buffer[..], RecvFlags::PEEK)?;
        if length == 0 {
            return Ok(Step::Done(Err(PeekError::Closed)));
        }
        let result = match state.parser.parse(&state.buffer[..length]) {
            Parse::Incomplete { .. } if length == state.buffer.len() => Err(PeekError::TooLarge),
            Parse::Incomplete { needed } => return Ok(Step::Wait { needed }),
            Parse::TooLarge => Err(PeekError::TooLarge),
            Parse::NotTls(kind) => Err(PeekError::NotTls(kind)),
            Parse::Malformed(why) => Err(PeekError::Malformed(why)),
            Parse::ClientHello(hello) => Ok(Hello {
                server_name: hello.server_name.map(Into::into),
                alpn: hello
                    .alpn
                    .iter()
                    .take(MAX_ALPN)
                    .map(|protocol| String::from_utf8_lossy(protocol).into_owned())
                    .collect(),
                ja4: self.with_ja4.then(|| hello.ja4()),
                bytes: hello.record_bytes,
            }),
        };
        Ok(Step::Done(result))
    }
}

/// Names that are kept for logs and hand-offs; browsers offer two or three. Each has up to 255 bytes.
const MAX_ALPN: usize = 8;
