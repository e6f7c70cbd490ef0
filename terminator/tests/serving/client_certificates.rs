//! Client certificates: who gets in, and which alert the others get.

use rcgen::{CertificateParams, DnType, SanType};

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

#[tokio::test]
async fn revoked_and_not_allowed_clients_get_their_own_alerts_and_audit_lines() {
    let clients = Authority::new("clients");
    let (revoked, stranger, manager) = (clients.client("manager"), clients.client("intern"), clients.client("manager"));
    let mut setup = setup("Required", &clients).await;
    let crl = setup.file("clients.crl", &clients.crl(&[&revoked], 2100));
    setup.tls = setup.tls.replace(
        "mode:",
        &format!("crl: ['{}'], allow: [{{ commonName: manager, groups: [managers] }}], mode:", crl.display()),
    );
    let (terminator, router) = setup.start().await;
    for versions in [TLS_1_2, TLS_1_3] {
        for (certificate, alert, reason) in
            [(&revoked, 44, "client_certificate_revoked"), (&stranger, 49, "client_certificate_not_allowed")]
        {
            let client = Client { certificate: Some(certificate.clone()), versions, ..Client::default() };
            assert_eq!(client.alert(hand_over(&router, NAME).await, NAME).await, alert, "{reason}");
            let line = terminator.log.line_with(&["audit", "client certificate refused", reason]).await;
            let serial: String = certificate.serial.to_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
            let serial = serial.trim_start_matches('0');
            assert!(line.contains(&format!("serial=\"{serial}\"")) && line.contains("subject=\"CN="), "{line}");
            assert!(line.contains("sha256="), "{line}");
        }
        let good = Client { certificate: Some(manager.clone()), versions, ..Client::default() };
        echo(&mut good.connect(hand_over(&router, NAME).await, NAME).await.unwrap()).await.unwrap();
    }
    status_shows(&router, "both are counted", |status| {
        failed_handshakes(status, "client_certificate_revoked") == 2
            && failed_handshakes(status, "client_certificate_not_allowed") == 2
    })
    .await;
}

#[tokio::test]
async fn an_outdated_revocation_list_lets_nobody_in() {
    let clients = Authority::new("clients");
    let mut setup = setup("Required", &clients).await;
    let crl = setup.file("clients.crl", &clients.crl(&[], 2024));
    setup.tls = setup.tls.replace("mode:", &format!("crl: ['{}'], mode:", crl.display()));
    let (_terminator, router) = setup.start().await;
    let number = client(Some(clients.client("manager"))).alert(hand_over(&router, NAME).await, NAME).await;
    assert_eq!(number, 48, "unknown_ca");
}

#[tokio::test]
async fn the_depth_of_a_clients_chain_is_bounded() {
    let root = Authority::new("root");
    let (middle, direct) = (root.intermediate("middle"), root.client("direct"));
    let mut behind = middle.client("behind");
    behind.chain_pem = format!("{}{}", behind.chain_pem, middle.ca_pem());
    for (bound, alert) in [("", None), ("maxIntermediates: 1,", None), ("maxIntermediates: 0,", Some(48))] {
        let mut setup = setup("Required", &root).await;
        setup.tls = setup.tls.replace("mode:", &format!("{bound} mode:"));
        let (_terminator, router) = setup.start().await;
        echo(&mut client(Some(direct.clone())).connect(hand_over(&router, NAME).await, NAME).await.unwrap())
            .await
            .unwrap();
        let behind = client(Some(behind.clone()));
        match alert {
            Some(number) => assert_eq!(behind.alert(hand_over(&router, NAME).await, NAME).await, number),
            None => {
                echo(&mut behind.connect(hand_over(&router, NAME).await, NAME).await.unwrap()).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_rule_that_let_a_client_in_is_its_identity_in_the_access_log() {
    let clients = Authority::new("clients");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationalUnitName, "ops");
    params.subject_alt_names = vec![SanType::URI("spiffe://acme/prod/web".try_into().unwrap())];
    let mut setup = setup("Required", &clients).await;
    setup.access_log = Some("access.log");
    setup.tls = setup.tls.replace(
        "mode:",
        "allow: [{ uri: 'spiffe://acme/prod/*', groups: [prod] }, { organizationalUnit: ops, groups: [ops, prod] }], mode:",
    );
    let (terminator, router) = setup.start().await;
    let client = client(Some(clients.client_with(params)));
    drop(client.connect(hand_over(&router, NAME).await, NAME).await.unwrap());
    let path = terminator.folder.path().join("access.log");
    let line = crate::support::patience::eventually("the line is written", async || {
        std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["client_identity"], "spiffe://acme/prod/web", "{line}");
    assert_eq!(line["groups"], serde_json::json!(["prod", "ops"]), "{line}");
}
