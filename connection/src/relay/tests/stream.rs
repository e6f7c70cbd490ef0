//! The relay under a stream with an end of its own, for which a toy stands in for TLS.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};

use super::fixture::{AN_HOUR, connected, expect_bytes, expect_end, expect_reset, scenario, send_bytes};
use crate::relay::{Layered, RelayContext, RelayEnd, RelayOutcome, RelayPolicy, SharedSocket, Traffic, relay_stream};
use crate::reset::reset;

/// Inverts each byte, holds writes back until it is flushed, and ends with [`CLOSE_NOTIFY`]; an end without that is
/// a truncation.
pub(super) struct Toy<S> {
    pub(super) inner: S,
    held_back: Vec<u8>,
    ended: bool,
}

/// No payload byte of these tests inverts to it.
pub(super) const CLOSE_NOTIFY: u8 = 0xff;
const HOLDS_BACK: usize = 32 * 1024;

impl<S> Toy<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, held_back: Vec::new(), ended: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Toy<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let mut new = buffer.filled()[before..].to_vec();
        if new.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        if new.last() == Some(&CLOSE_NOTIFY) {
            self.ended = true;
            new.pop();
        }
        new.iter_mut().for_each(|byte| *byte = !*byte);
        buffer.set_filled(before);
        buffer.put_slice(&new);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Toy<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held_back.len() >= HOLDS_BACK {
            ready!(self.as_mut().poll_flush(context))?;
        }
        let length = bytes.len().min(HOLDS_BACK - self.held_back.len());
        self.held_back.extend(bytes[..length].iter().map(|byte| !byte));
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.held_back.is_empty() {
            let length = ready!(Pin::new(&mut this.inner).poll_write(context, &this.held_back))?;
            this.held_back.drain(..length);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended || !self.held_back.is_empty() {
            ready!(self.as_mut().poll_flush(context))?;
        }
        match Pin::new(&mut self.inner).poll_write(context, &[CLOSE_NOTIFY]) {
            Poll::Ready(Ok(_)) => Pin::new(&mut self.inner).poll_shutdown(context),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

struct Relayed {
    client: Toy<TcpStream>,
    backend: TcpStream,
    relay: JoinHandle<RelayEnd>,
}

async fn relayed(idle_timeout: Duration) -> Relayed {
    let (client, from_client) = connected().await;
    let (to_backend, backend) = connected().await;
    let relay = spawn_local(async move {
        let context = RelayContext::new(RelayPolicy::Splice);
        let socket = SharedSocket::new(from_client);
        let stream = Toy::new(socket.clone());
        let client = Layered { stream, socket };
        relay_stream(&context, client, to_backend, idle_timeout, &Traffic::default(), pending()).await
    });
    Relayed { client: Toy::new(client), backend, relay }
}

async fn send_text(sink: &mut (impl AsyncWrite + Unpin), text: &[u8]) {
    sink.write_all(text).await.unwrap();
    sink.flush().await.unwrap();
}

#[test]
fn small_messages_are_flushed_without_being_asked_for() {
    scenario(async {
        let Relayed { mut client, mut backend, .. } = relayed(AN_HOUR).await;
        let mut text = [0; 4];
        for _ in 0..100 {
            send_text(&mut client, b"ping").await;
            backend.read_exact(&mut text).await.unwrap();
            send_text(&mut backend, b"pong").await;
            client.read_exact(&mut text).await.unwrap();
            assert_eq!(&text, b"pong");
        }
    });
}

#[test]
fn bulk_to_the_client_is_exact_and_its_end_is_the_streams_own() {
    scenario(async {
        let Relayed { client, mut backend, relay } = relayed(AN_HOUR).await;
        let download = async {
            send_bytes(&mut backend, 7, 8 << 20).await;
            backend.shutdown().await.unwrap();
        };
        let mut plain = Inverting(client.inner);
        let ((), mut plain) = tokio::join!(download, async {
            expect_bytes(&mut plain, 7, 8 << 20).await;
            plain.0
        });
        let mut rest = Vec::new();
        plain.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [CLOSE_NOTIFY]);
        plain.write_all(&[CLOSE_NOTIFY]).await.unwrap();
        let end = relay.await.unwrap();
        assert!(matches!(end.outcome, RelayOutcome::Ok), "{end:?}");
        assert_eq!(end.backend_to_client, 8 << 20);
    });
}

/// Payload of a [`Toy`] stream whose bytes may take every value.
struct Inverting(TcpStream);

impl AsyncRead for Inverting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(context, buffer))?;
        buffer.filled_mut()[before..].iter_mut().for_each(|byte| *byte = !*byte);
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_client_that_has_finished_properly_still_receives() {
    scenario(async {
        let Relayed { mut client, mut backend, relay } = relayed(AN_HOUR).await;
        client.inner.write_all(&[!b'q', CLOSE_NOTIFY]).await.unwrap();
        let mut question = Vec::new();
        backend.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"q");
        backend.write_all(b"answer").await.unwrap();
        drop(backend);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        assert!(matches!(relay.await.unwrap().outcome, RelayOutcome::Ok));
    });
}

#[test]
fn a_client_that_is_cut_off_resets_the_backend() {
    scenario(async {
        let Relayed { mut client, mut backend, relay } = relayed(AN_HOUR).await;
        send_text(&mut client, b"half").await;
        backend.read_exact(&mut [0; 4]).await.unwrap();
        client.inner.shutdown().await.unwrap();
        expect_reset(&backend).await;
        assert!(matches!(relay.await.unwrap().outcome, RelayOutcome::ClientTruncated));
    });
}

#[test]
fn a_reset_of_a_client_that_had_finished_is_passed_on() {
    scenario(async {
        let Relayed { mut client, mut backend, relay } = relayed(AN_HOUR).await;
        client.inner.write_all(&[CLOSE_NOTIFY]).await.unwrap();
        expect_end(&mut backend).await;
        reset(client.inner);
        expect_reset(&backend).await;
        assert!(matches!(relay.await.unwrap().outcome, RelayOutcome::ClientReset));
    });
}

#[test]
fn a_reset_of_the_backend_is_passed_on() {
    scenario(async {
        let Relayed { client, backend, relay } = relayed(AN_HOUR).await;
        reset(backend);
        expect_reset(&client.inner).await;
        assert!(matches!(relay.await.unwrap().outcome, RelayOutcome::BackendReset));
    });
}

#[test]
fn silence_resets_both() {
    scenario(async {
        let Relayed { client, backend, relay } = relayed(Duration::from_millis(50)).await;
        expect_reset(&client.inner).await;
        expect_reset(&backend).await;
        assert!(matches!(relay.await.unwrap().outcome, RelayOutcome::IdleTimeout));
    });
}
