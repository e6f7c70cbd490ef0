//! The name that rustls reads decides, whatever the hand-off says.

use crate::support::backend::Backend;
use crate::support::client::{Client, echo};
use crate::support::pki::{Authority, KeyKind};
use crate::support::process::{Setup, failed_handshakes, hand_over, handoff, status_shows, try_hand_over};

async fn setup() -> Setup {
    let mut setup = Setup::new(Backend::new().await.echo());
    setup.certificate(&Authority::new("a").server(&["api.acme.example"], KeyKind::Ecdsa));
    setup
}

#[tokio::test]
async fn another_tenants_name_in_the_real_hello_is_refused_with_unrecognized_name() {
    let (terminator, router) = setup().await.start().await;
    let tcp = hand_over(&router, "api.acme.example").await;
    assert_eq!(Client::default().alert(tcp, "api.globex.example").await, 112);
    status_shows(&router, "it is counted", |status| failed_handshakes(status, "unrecognized_name") == 1).await;
    let line = terminator.log.line_with(&["audit", "unrecognized_name"]).await;
    assert!(line.contains("api.globex.example") && line.contains("tenant=\"acme\""), "{line}");
}

#[tokio::test]
async fn a_hello_without_a_name_is_served_only_where_the_listener_says_so() {
    // An IP address as the server's name is not sent (RFC 6066 section 3).
    let (_terminator, router) = setup().await.start().await;
    let tcp = try_hand_over(&router, &handoff(None)).await.unwrap();
    assert_eq!(Client::default().alert(tcp, "127.0.0.1").await, 112);

    let fallback = Setup { listener: ", onNoServerName: acme", ..setup().await };
    let (_terminator, router) = fallback.start().await;
    let tcp = try_hand_over(&router, &handoff(None)).await.unwrap();
    echo(&mut Client::default().connect(tcp, "127.0.0.1").await.unwrap()).await.unwrap();
    let tcp = hand_over(&router, "api.acme.example").await;
    assert_eq!(Client::default().alert(tcp, "127.0.0.1").await, 112);
}

#[tokio::test]
async fn a_name_in_other_spelling_is_the_same_name() {
    let (_terminator, router) = setup().await.start().await;
    let tcp = hand_over(&router, "api.acme.example").await;
    echo(&mut Client::default().connect(tcp, "API.acme.EXAMPLE").await.unwrap()).await.unwrap();
}
