//! The relay between two streams with ends of their own, as with TLS on both sides.

use std::future::pending;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};

use super::fixture::{AN_HOUR, connected, expect_reset, scenario};
use super::stream::{CLOSE_NOTIFY, Toy};
use crate::relay::{Layered, RelayContext, RelayEnd, RelayOutcome, RelayPolicy, SharedSocket, Traffic, relay_streams};
use crate::reset::reset;

struct Relayed {
    client: Toy<TcpStream>,
    backend: Toy<TcpStream>,
    relay: JoinHandle<RelayEnd>,
}

async fn relayed() -> Relayed {
    let (client, from_client) = connected().await;
    let (to_backend, backend) = connected().await;
    let layered = |socket| {
        let socket = SharedSocket::new(socket);
        Layered { stream: Toy::new(socket.clone()), socket }
    };
    let relay = spawn_local(async move {
        let context = RelayContext::new(RelayPolicy::Splice);
        let (client, backend) = (layered(from_client), layered(to_backend));
        relay_streams(&context, client, backend, AN_HOUR, &Traffic::default(), pending()).await
    });
    Relayed { client: Toy::new(client), backend: Toy::new(backend), relay }
}

#[test]
fn both_ways_arrive_and_each_end_is_the_streams_own() {
    scenario(async {
        let Relayed { mut client, mut backend, relay } = relayed().await;
        let mut text = [0; 4];
        for _ in 0..100 {
            client.write_all(b"ping").await.unwrap();
            client.flush().await.unwrap();
            backend.read_exact(&mut text).await.unwrap();
            backend.write_all(b"pong").await.unwrap();
            backend.flush().await.unwrap();
            client.read_exact(&mut text).await.unwrap();
            assert_eq!(&text, b"pong");
        }
        client.shutdown().await.unwrap();
        assert_eq!(backend.read(&mut text).await.unwrap(), 0);
        // One direction has ended; the other one goes on.
        backend.write_all(b"more").await.unwrap();
        backend.shutdown().await.unwrap();
        client.read_exact(&mut text).await.unwrap();
        assert_eq!((&text, client.read(&mut [0; 1]).await.unwrap()), (b"more", 0));
        let end = relay.await.unwrap();
        assert!(matches!(end.outcome, RelayOutcome::Ok), "{end:?}");
        assert_eq!((end.client_to_backend, end.backend_to_client), (400, 404));
    });
}

#[test]
fn a_backend_that_is_cut_off_cuts_the_client_off_at_the_same_byte() {
    scenario(async {
        let Relayed { client, mut backend, relay } = relayed().await;
        let text = vec![b'x'; 100_000];
        backend.write_all(&text).await.unwrap();
        backend.flush().await.unwrap();
        backend.inner.shutdown().await.unwrap();
        let mut plain = Vec::new();
        let mut inner = client.inner;
        inner.read_to_end(&mut plain).await.unwrap();
        assert_eq!(plain.len(), text.len());
        assert!(!plain.contains(&CLOSE_NOTIFY));
        assert!(matches!(relay.await.unwrap().outcome, RelayOutcome::BackendTruncated));
    });
}

#[test]
fn resets_and_truncation_by_the_client_are_passed_on_as_resets() {
    scenario(async {
        let Relayed { client, backend, relay } = relayed().await;
        reset(backend.inner);
        expect_reset(&client.inner).await;
        assert!(matches!(relay.await.unwrap().outcome, RelayOutcome::BackendReset));

        let Relayed { mut client, backend, relay } = relayed().await;
        client.inner.shutdown().await.unwrap();
        expect_reset(&backend.inner).await;
        assert!(matches!(relay.await.unwrap().outcome, RelayOutcome::ClientTruncated));
    });
}
