//! Connections that come too late or never say anything.

use std::time::{Duration, Instant};

use connection::clock::monotonic_ns;
use tokio::io::AsyncReadExt;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::patience::soon;
use crate::support::pki::{Authority, KeyKind};
use crate::support::process::{Setup, failed_handshakes, handoff, status_shows, try_hand_over};

const NAME: &str = "api.acme.example";

async fn setup() -> Setup {
    let mut setup = Setup::new(Backend::new().await.echo());
    setup.certificate(&Authority::new("a").server(&[NAME], KeyKind::Ecdsa));
    setup
}

#[tokio::test]
async fn a_connection_whose_deadline_has_passed_gets_an_alert_and_is_counted() {
    let (_terminator, router) = setup().await.start().await;
    let mut late = handoff(Some(NAME));
    late.deadline_monotonic_ns = monotonic_ns(Instant::now()) - 1;
    let tcp = try_hand_over(&router, &late).await.unwrap();
    assert_eq!(Client::default().alert(tcp, NAME).await, 80, "internal_error");
    status_shows(&router, "it is counted", |status| failed_handshakes(status, "deadline_passed") == 1).await;
}

#[tokio::test]
async fn a_connection_without_a_hello_ends_at_its_deadline() {
    let (_terminator, router) = setup().await.start().await;
    let mut short = handoff(Some(NAME));
    short.deadline_monotonic_ns = monotonic_ns(Instant::now() + Duration::from_millis(200));
    let mut tcp = try_hand_over(&router, &short).await.unwrap();
    let mut answer = Vec::new();
    soon("it is closed", tcp.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 80]);
    status_shows(&router, "it is counted", |status| failed_handshakes(status, "deadline_passed") == 1).await;
}

#[tokio::test]
async fn a_client_that_just_leaves_is_no_error() {
    let (terminator, router) = setup().await.start().await;
    drop(try_hand_over(&router, &handoff(Some(NAME))).await.unwrap());
    status_shows(&router, "it is counted", |status| failed_handshakes(status, "client_closed") == 1).await;
    let line = terminator.log.line_with(&["audit", "client_closed"]).await;
    assert!(line.contains("DEBUG"), "{line}");
}
