//! The end of the process: what is established goes on, within its time.

use connection::handoff::HandoffError;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::backend::Backend;
use crate::support::client::{Client, echo};
use crate::support::patience::{eventually, soon};
use crate::support::pki::{Authority, KeyKind};
use crate::support::process::{Setup, hand_over, handoff, try_hand_over};

const NAME: &str = "api.acme.example";

async fn setup(drain_timeout: &str) -> Setup {
    let mut setup = Setup::new(Backend::new().await.echo());
    setup.certificate(&Authority::new("a").server(&[NAME], KeyKind::Ecdsa));
    setup.tenant = format!("drainTimeout: {drain_timeout}");
    setup
}

#[tokio::test]
async fn sigterm_lets_established_connections_finish_and_takes_no_new_ones() {
    let (mut terminator, router) = setup("1m").await.start().await;
    let mut stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    echo(&mut stream).await.unwrap();
    terminator.signal(Signal::SIGTERM);
    terminator.log.line_with(&["draining", "connections=1"]).await;
    let refused =
        eventually("hand-offs are refused", async || try_hand_over(&router, &handoff(Some(NAME))).await.err());
    assert!(matches!(refused.await, HandoffError::PeerGone));
    eventually("the socket's file is gone", async || (!terminator.socket.exists()).then_some(())).await;
    echo(&mut stream).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(soon("the client sees the end", stream.read(&mut [0; 1])).await.unwrap(), 0);
    assert!(terminator.exit_status().await.success());
}

#[tokio::test]
async fn what_was_handed_over_before_sigterm_is_served() {
    let (mut terminator, router) = setup("1m").await.start().await;
    let queued = hand_over(&router, NAME).await;
    terminator.signal(Signal::SIGTERM);
    let mut stream = Client::default().connect(queued, NAME).await.unwrap();
    echo(&mut stream).await.unwrap();
    drop(stream);
    assert!(terminator.exit_status().await.success());
}

#[tokio::test]
async fn the_drain_timeout_ends_what_is_left() {
    let (mut terminator, router) = setup("1s").await.start().await;
    let mut stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    echo(&mut stream).await.unwrap();
    terminator.signal(Signal::SIGTERM);
    assert!(soon("the client sees the end", stream.read(&mut [0; 1])).await.is_err());
    terminator.log.line_with(&["drainTimeout is over", "connections=1"]).await;
    assert!(terminator.exit_status().await.success());
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let (mut terminator, router) = setup("10m").await.start().await;
    let mut stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    echo(&mut stream).await.unwrap();
    terminator.signal(Signal::SIGTERM);
    terminator.log.line_with(&["draining"]).await;
    terminator.signal(Signal::SIGTERM);
    assert!(terminator.exit_status().await.success());
    assert!(soon("the client sees the end", stream.read(&mut [0; 1])).await.is_err());
}

#[tokio::test]
async fn the_end_of_the_supervisor_drains() {
    let mut setup = setup("1m").await;
    setup.supervised = true;
    let (mut terminator, _router) = setup.start().await;
    drop(terminator.lifeline.take());
    terminator.log.line_with(&["draining", "the supervisor is gone"]).await;
    assert!(terminator.exit_status().await.success());
}

#[tokio::test]
async fn the_end_of_the_router_ends_no_connection() {
    let (terminator, router) = setup("1m").await.start().await;
    let mut stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    echo(&mut stream).await.unwrap();
    drop(router);
    terminator.log.line_with(&["a router's channel ended"]).await;
    echo(&mut stream).await.unwrap();
    let successor = terminator.connect().await;
    assert_eq!(successor.status().await.unwrap().active, 1);
}

#[tokio::test]
async fn sighup_reads_the_files_again_and_ends_nothing() {
    let (terminator, router) = setup("1m").await.start().await;
    terminator.signal(Signal::SIGHUP);
    terminator.log.line_with(&["SIGHUP", "reading the certificate files again"]).await;
    echo(&mut Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap()).await.unwrap();
}
