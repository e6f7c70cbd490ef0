//! How connections end: what one side does, the other one sees.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::backend::{Backend, closed_port};
use crate::support::client::Client;
use crate::support::patience::soon;
use crate::support::pki::{Authority, KeyKind};
use crate::support::process::{Setup, ended, hand_over, status_shows};

const NAME: &str = "api.acme.example";

fn setup(backend: std::net::SocketAddr) -> Setup {
    let mut setup = Setup::new(backend);
    setup.certificate(&Authority::new("a").server(&[NAME], KeyKind::Ecdsa));
    setup
}

#[tokio::test]
async fn half_close_by_the_client_keeps_the_answer_flowing() {
    let backend = Backend::new().await;
    let (_terminator, router) = setup(backend.address()).start().await;
    let mut stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    let mut connection = backend.accept().await;
    stream.write_all(b"question").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut question = Vec::new();
    soon("the backend sees the end", connection.read_to_end(&mut question)).await.unwrap();
    assert_eq!(question, b"question");
    connection.write_all(b"answer").await.unwrap();
    drop(connection);
    let mut answer = Vec::new();
    soon("the client sees the end", stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"answer");
    status_shows(&router, "all is counted", |status| {
        ended(status, "ok") == 1 && (status.client_to_backend, status.backend_to_client, status.active) == (8, 6, 0)
    })
    .await;
}

#[tokio::test]
async fn a_truncated_tls_stream_resets_the_backend() {
    let backend = Backend::new().await;
    let (_terminator, router) = setup(backend.address()).start().await;
    let mut stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    let mut connection = backend.accept().await;
    stream.write_all(b"half of a quest").await.unwrap();
    // A FIN without close_notify: anybody on the way could have sent it (RFC 8446 section 6.1).
    stream.get_mut().0.shutdown().await.unwrap();
    let mut question = Vec::new();
    let error = soon("the backend sees the end", connection.read_to_end(&mut question)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    status_shows(&router, "it is counted", |status| ended(status, "client_truncated") == 1).await;
}

#[tokio::test]
async fn a_backend_that_resets_resets_the_client() {
    let backend = Backend::new().await;
    let (_terminator, router) = setup(backend.address()).start().await;
    let mut stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    let mut connection = backend.accept().await;
    // A reset before the terminator has seen its connection is a refused dial; a byte proves that it has.
    stream.write_all(b"?").await.unwrap();
    soon("the byte arrives", connection.read_exact(&mut [0; 1])).await.unwrap();
    connection::reset(connection);
    let error = soon("the client sees the end", stream.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    status_shows(&router, "it is counted", |status| ended(status, "backend_reset") == 1).await;
}

#[tokio::test]
async fn a_backend_that_refuses_resets_the_client() {
    let (_terminator, router) = setup(closed_port()).start().await;
    // TLS 1.3 lets the client finish first; what it reads then is the verdict.
    let error = match Client::default().connect(hand_over(&router, NAME).await, NAME).await {
        Ok(mut stream) => soon("the client sees the end", stream.read(&mut [0; 1])).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    status_shows(&router, "it is counted", |status| ended(status, "backend_refused") == 1).await;
}

#[tokio::test]
async fn an_idle_connection_is_ended() {
    let backend = Backend::new().await;
    let mut setup = setup(backend.address());
    setup.tenant = "idleTimeout: 1s".into();
    let (_terminator, router) = setup.start().await;
    let mut stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    let began = tokio::time::Instant::now();
    assert!(soon("the client sees the end", stream.read(&mut [0; 1])).await.is_err());
    assert!(began.elapsed() > Duration::from_millis(500));
    status_shows(&router, "it is counted", |status| ended(status, "idle_timeout") == 1).await;
}
