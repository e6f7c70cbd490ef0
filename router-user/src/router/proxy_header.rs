//! The PROXY protocol header of a trusted sender: waits for it within the connection's deadline and takes exactly its
//! bytes out of the socket, so that the ClientHello is what comes next.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;

use proxy_protocol_rs::{ParseError, V2_SIGNATURE, parse};
use rustix::net::RecvFlags;
use tokio::net::TcpStream;

use super::peek::{PeekError, Step, peek_until};

/// Who the sender says that the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    /// The client.
    pub(super) client: SocketAddr,
    /// Where the client connected to.
    pub(super) local: SocketAddr,
}

/// Takes the header. `None` when the sender speaks for itself (LOCAL, UNKNOWN) or for a Unix socket's client.
pub(super) async fn take(stream: &TcpStream) -> Result<Option<Addresses>, PeekError> {
    peek_until(stream, || step(stream)).await
}

fn step(stream: &TcpStream) -> io::Result<Step<Option<Addresses>>> {
    BUFFER.with_borrow_mut(|buffer| {
        let (_, length) = rustix::net::recv(stream, &mut buffer[..], RecvFlags::PEEK)?;
        let bytes = &buffer[..length];
        if length == 0 {
            return Ok(Step::Done(Err(PeekError::Closed)));
        }
        let (info, taken) = match parse(bytes) {
            Ok(parsed) => parsed,
            Err(ParseError::Incomplete) if length < LONGEST_HEADER => return Ok(Step::Wait { needed: needed(bytes) }),
            Err(ParseError::Incomplete) => return Ok(invalid(format!("longer than {LONGEST_HEADER} bytes"))),
            Err(ParseError::NotProxyProtocol) => return Ok(invalid("missing".to_owned())),
            Err(error) => return Ok(invalid(error.to_string())),
        };
        // What was peeked is in the queue, so this read is never short.
        let (_, read) = rustix::net::recv(stream, &mut buffer[..taken], RecvFlags::empty())?;
        if read != taken {
            return Ok(Step::Done(Err(PeekError::Closed)));
        }
        let addresses = info.source_inet().zip(info.destination_inet());
        Ok(Step::Done(Ok(
            addresses.map(|(client, local)| Addresses { client: canonical(client), local: canonical(local) })
        )))
    })
}

/// The least number of bytes with which asking again can make sense.
fn needed(bytes: &[u8]) -> usize {
    match bytes.get(..16) {
        Some(head) if head.starts_with(V2_SIGNATURE) => {
            (16 + usize::from(u16::from_be_bytes([head[14], head[15]]))).clamp(bytes.len() + 1, LONGEST_HEADER)
        }
        _ => bytes.len() + 1,
    }
}

fn invalid(why: String) -> Step<Option<Addresses>> {
    Step::Done(Err(PeekError::ProxyHeader(why)))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Addresses, names and a client's certificate take one or two KiB; the protocol's own bound is 64 KiB.
const LONGEST_HEADER: usize = 8192;

thread_local! {
    /// Borrowed inside one poll only.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; LONGEST_HEADER].into());
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proxy_protocol_rs::HeaderBuilder;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (std::net::TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    fn addresses() -> Addresses {
        Addresses { client: "192.0.2.7:40000".parse().unwrap(), local: "198.51.100.1:443".parse().unwrap() }
    }

    #[tokio::test]
    async fn byte_by_byte_the_header_is_taken_and_nothing_more() {
        let Addresses { client, local } = addresses();
        for header in [HeaderBuilder::v1_proxy(client, local), HeaderBuilder::v2_proxy(client, local)] {
            let (mut sender, mut stream) = pair().await;
            let bytes = [header.build(), b"!".to_vec()].concat();
            let sender = std::thread::spawn(move || {
                bytes.iter().for_each(|byte| sender.write_all(&[*byte]).unwrap());
                sender
            });
            assert_eq!(take(&stream).await.unwrap(), Some(addresses()));
            assert_eq!(stream.read_u8().await.unwrap(), b'!');
            drop(sender.join().unwrap());
        }
    }

    #[tokio::test]
    async fn a_sender_that_speaks_for_itself_has_no_other_addresses() {
        for header in [HeaderBuilder::v2_local(), HeaderBuilder::v1_unknown()] {
            let (mut sender, stream) = pair().await;
            sender.write_all(&header.build()).unwrap();
            assert_eq!(take(&stream).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let too_long = [V2_SIGNATURE.as_slice(), &[0x21, 0x11, 0xFF, 0xFF], &[0; LONGEST_HEADER]].concat();
        for bytes in [b"\x16\x03\x01\x02\x00\x01", b"PROXY TCP4 a b c d\r\n".as_slice(), &too_long] {
            let (mut sender, stream) = pair().await;
            sender.write_all(bytes).unwrap();
            assert!(matches!(take(&stream).await, Err(PeekError::ProxyHeader(_))), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn an_end_within_the_header_ends_the_wait() {
        let (mut sender, stream) = pair().await;
        sender.write_all(b"PROXY TC").unwrap();
        drop(sender);
        assert!(matches!(take(&stream).await, Err(PeekError::Closed)));
    }
}
