//! Client certificates: who gets in, and which alert the others get.

use crate::support::backend::Backend;
use crate::support::client::{Client, TLS_1_2, TLS_1_3, echo};
use crate::support::pki::{Authority, KeyKind, Pair};
use crate::support::process::{Setup, failed_handshakes, hand_over, status_shows};

const NAME: &str = "api.acme.example";

async fn setup(mode: &str, clients: &Authority) -> Setup {
    let mut setup = Setup::new(Backend::new().await.echo());
    setup.certificate(&Authority::new("servers").server(&[NAME], KeyKind::Ecdsa));
    let ca = setup.file("clients.crt", &clients.ca_pem());
    setup.tls = format!(", clientValidation: {{mode: {mode}, ca: ['{}']}}", ca.display());
    setup
}

fn client(certificate: Option<Pair>) -> Client {
    Client { certificate, versions: TLS_1_3, ..Client::default() }
}

#[tokio::test]
async fn a_required_certificate_must_be_there_valid_and_from_the_tenants_ca() {
    let clients = Authority::new("clients");
    let (terminator, router) = setup("Required", &clients).await.start().await;
    for (certificate, alert, reason) in [
        (None, 116, "client_certificate_missing"),
        (Some(Authority::new("strangers").client("mallory")), 48, "client_certificate_unknown_ca"),
        (Some(clients.expired_client("late")), 45, "client_certificate_expired"),
    ] {
        let number = client(certificate).alert(hand_over(&router, NAME).await, NAME).await;
        assert_eq!(number, alert, "{reason}");
        status_shows(&router, reason, |status| failed_handshakes(status, reason) == 1).await;
        terminator.log.line_with(&["audit", "client certificate refused", reason]).await;
    }
    let good = client(Some(clients.client("manager")));
    echo(&mut good.connect(hand_over(&router, NAME).await, NAME).await.unwrap()).await.unwrap();
    status_shows(&router, "verdicts", |status| {
        let of =
            |outcome| status.client_certificates.iter().filter(|c| c.outcome == outcome).map(|c| c.count).sum::<u64>();
        (of("ok"), of("refused"), of("absent")) == (1, 3, 0)
    })
    .await;
}

#[tokio::test]
async fn tls_1_2_asks_for_certificates_too() {
    let clients = Authority::new("clients");
    let (_terminator, router) = setup("Required", &clients).await.start().await;
    let with = |certificate| Client { certificate, versions: TLS_1_2, ..Client::default() };
    let stranger = with(Some(Authority::new("strangers").client("mallory")));
    assert_eq!(stranger.alert(hand_over(&router, NAME).await, NAME).await, 48);
    let good = with(Some(clients.client("manager")));
    echo(&mut good.connect(hand_over(&router, NAME).await, NAME).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn an_optional_certificate_may_be_absent_but_not_wrong() {
    let clients = Authority::new("clients");
    let (_terminator, router) = setup("Optional", &clients).await.start().await;
    echo(&mut client(None).connect(hand_over(&router, NAME).await, NAME).await.unwrap()).await.unwrap();
    status_shows(&router, "it is counted", |status| {
        status.client_certificates.iter().any(|count| count.outcome == "absent" && count.count == 1)
    })
    .await;
    let stranger = client(Some(Authority::new("strangers").client("mallory")));
    assert_eq!(stranger.alert(hand_over(&router, NAME).await, NAME).await, 48);
}
