//! Protocol versions, groups and ALPN.

use rustls::NamedGroup;

use crate::support::backend::Backend;
use crate::support::client::{Client, TLS_1_2, echo};
use crate::support::pki::{Authority, KeyKind};
use crate::support::process::{Setup, failed_handshakes, hand_over, status_shows};

const NAME: &str = "api.acme.example";

async fn setup(tls: &str) -> Setup {
    let mut setup = Setup::new(Backend::new().await.echo());
    setup.certificate(&Authority::new("a").server(&[NAME], KeyKind::Ecdsa));
    setup.tls = tls.to_owned();
    setup
}

#[tokio::test]
async fn post_quantum_key_exchange_is_negotiated() {
    let (_terminator, router) = setup("").await.start().await;
    let mut stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    echo(&mut stream).await.unwrap();
}

#[tokio::test]
async fn a_tenant_with_min_version_1_3_refuses_1_2_with_protocol_version() {
    let (_terminator, router) = setup(", minVersion: '1.3'").await.start().await;
    let old = Client { versions: TLS_1_2, ..Client::default() };
    assert_eq!(old.alert(hand_over(&router, NAME).await, NAME).await, 70);
    status_shows(&router, "it is counted", |status| failed_handshakes(status, "protocol_version") == 1).await;
    echo(&mut Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn alpn_follows_the_tenants_preference_and_refuses_strangers() {
    let (_terminator, router) = setup(", alpn: [h2, http/1.1]").await.start().await;
    let both = Client { alpn: vec![b"http/1.1".to_vec(), b"h2".to_vec()], ..Client::default() };
    let stream = both.connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let stranger = Client { alpn: vec![b"imap".to_vec()], ..Client::default() };
    assert_eq!(stranger.alert(hand_over(&router, NAME).await, NAME).await, 120);
}
