//! The peek step: waits for a whole ClientHello without taking a byte out of the socket. Owns the worker's peek buffer.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;

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
    #[error("not TLS: {}", .0.name())]
    NotTls(NotTls),
    /// The hello is longer than the listener's `maxBytes`.
    #[error("ClientHello longer than clientHello.maxBytes")]
    TooLarge,
    /// The client ended its side first.
    #[error("closed before the ClientHello was whole")]
    Closed,
    /// A trusted sender's PROXY header is missing or wrong.
    #[error("PROXY protocol header: {0}")]
    ProxyHeader(String),
    /// The socket failed.
    #[error("peek: {0}")]
    Socket(io::Error),
}

#[derive(Debug)]
struct PeekState {
    buffer: Box<[u8]>,
    parser: ClientHelloParser,
}

/// What a look at the bytes so far gave.
pub(super) enum Step<T> {
    /// An answer.
    Done(Result<T, PeekError>),
    /// More bytes are needed: so many in all, from the first one in the socket.
    Wait {
        /// More than there are, and no more than are truly needed.
        needed: usize,
    },
}

impl Peeker {
    /// A peeker for hellos of up to `max_bytes`.
    pub fn new(max_bytes: usize, with_ja4: bool) -> Self {
        let state = PeekState { buffer: vec![0; max_bytes].into(), parser: ClientHelloParser::new(max_bytes) };
        Self { state: RefCell::new(state), with_ja4 }
    }

    /// The hello, or why there will be none, if that is known at once.
    pub(super) fn look(&self, stream: &impl AsFd) -> Option<Result<Hello, PeekError>> {
        match self.step(stream) {
            Ok(Step::Done(result)) => Some(result),
            Ok(Step::Wait { .. }) => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(PeekError::Socket(error))),
        }
    }

    /// Waits until the hello is whole or can no longer become one. The socket stays unread. The caller sets the
    /// deadline; dropping the future leaves nothing behind but the low-water mark of a socket that is then closed.
    pub async fn peek(&self, stream: &TcpStream) -> Result<Hello, PeekError> {
        peek_until(stream, || self.step(stream)).await
    }

    fn step(&self, stream: &impl AsFd) -> io::Result<Step<Hello>> {
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

/// Asks `step` each time that the socket has as many bytes as it wanted, and sleeps in between. Notices FIN and RST.
pub(super) async fn peek_until<T>(
    stream: &TcpStream,
    mut step: impl FnMut() -> io::Result<Step<T>>,
) -> Result<T, PeekError> {
    let mut low_water_mark = 1;
    loop {
        let ready = stream.ready(Interest::READABLE).await.map_err(PeekError::Socket)?;
        let mut wanted = 0;
        let stepped = stream.try_io(Interest::READABLE, || match step() {
            // WouldBlock clears the readiness, so that the next turn sleeps until the kernel has news.
            Ok(Step::Wait { needed }) => {
                wanted = needed;
                Err(io::ErrorKind::WouldBlock.into())
            }
            Ok(Step::Done(result)) => Ok(result),
            Err(error) => Err(error),
        });
        match stepped {
            Ok(result) => {
                if low_water_mark != 1 {
                    set_receive_low_water_mark(stream, 1).map_err(PeekError::Socket)?;
                }
                return result;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // The peek came after the readiness was sampled, so it saw all that was sent before the FIN.
                if ready.is_read_closed() {
                    return Err(match stream.take_error() {
                        Ok(Some(reset)) => PeekError::Socket(reset),
                        Ok(None) | Err(_) => PeekError::Closed,
                    });
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

/// Names that are kept for logs and hand-offs; browsers offer two or three. Each has up to 255 bytes.
const MAX_ALPN: usize = 8;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::Shutdown;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const HELLO: &[u8] = include_bytes!("../../../client-hello/tests/captures/openssl3.0.bin");

    async fn pair() -> (std::net::TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn every_byte_is_still_there_after_the_peek() {
        let (mut client, mut stream) = pair().await;
        client.write_all(HELLO).unwrap();
        let hello = Peeker::new(65536, true).peek(&stream).await.unwrap();
        assert_eq!(hello.bytes, HELLO.len());
        assert!(hello.server_name.is_some() && hello.ja4.is_some());
        let mut read = vec![0; HELLO.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(read, HELLO);
    }

    #[tokio::test]
    async fn a_hello_byte_by_byte_is_found_and_the_next_read_is_not_held_back() {
        let (mut client, mut stream) = pair().await;
        let sender = std::thread::spawn(move || {
            HELLO.iter().for_each(|byte| client.write_all(&[*byte]).unwrap());
            client
        });
        Peeker::new(65536, false).peek(&stream).await.unwrap();
        let mut client = sender.join().unwrap();
        let mut read = vec![0; HELLO.len()];
        stream.read_exact(&mut read).await.unwrap();
        // One byte must wake the reader: the low-water mark of the peek is gone.
        client.write_all(b"!").unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
    }

    #[tokio::test]
    async fn a_fin_behind_half_a_hello_ends_the_wait() {
        let (mut client, stream) = pair().await;
        client.write_all(&HELLO[..100]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(matches!(Peeker::new(65536, false).peek(&stream).await, Err(PeekError::Closed)));
    }

    #[tokio::test]
    async fn a_fin_during_the_wait_ends_it() {
        let (mut client, stream) = pair().await;
        client.write_all(&HELLO[..100]).unwrap();
        let peeker = Peeker::new(65536, false);
        let mut peek = Box::pin(peeker.peek(&stream));
        // The first poll sees half a hello and goes to sleep.
        assert!(tokio::time::timeout(std::time::Duration::ZERO, &mut peek).await.is_err());
        client.shutdown(Shutdown::Write).unwrap();
        assert!(matches!(peek.await, Err(PeekError::Closed)));
    }

    #[tokio::test]
    async fn a_reset_during_the_wait_ends_it() {
        let (mut client, stream) = pair().await;
        client.write_all(&HELLO[..100]).unwrap();
        socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        let peeker = Peeker::new(65536, false);
        let mut peek = Box::pin(peeker.peek(&stream));
        assert!(tokio::time::timeout(std::time::Duration::ZERO, &mut peek).await.is_err());
        drop(client);
        assert!(matches!(peek.await, Err(PeekError::Socket(_))));
    }

    #[tokio::test]
    async fn bytes_that_fill_the_buffer_without_a_hello_are_too_large() {
        let (mut client, stream) = pair().await;
        client.write_all(&HELLO[..100]).unwrap();
        assert!(matches!(Peeker::new(100, false).peek(&stream).await, Err(PeekError::TooLarge)));
    }
}
