//! The line that a connection leaves behind.

use std::fs;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::backend::Backend;
use crate::support::client::{Client, TLS_1_3, echo};
use crate::support::patience::{eventually, soon};
use crate::support::pki::{Authority, KeyKind};
use crate::support::process::{Setup, hand_over};

const NAME: &str = "api.acme.example";

#[tokio::test]
async fn a_line_says_who_came_how_and_why_it_ended() {
    let clients = Authority::new("clients");
    let mut setup = Setup::new(Backend::new().await.echo());
    setup.certificate(&Authority::new("servers").server(&[NAME], KeyKind::Ecdsa));
    let ca = setup.file("clients.crt", &clients.ca_pem());
    setup.tls = format!(", alpn: [h2], clientValidation: {{mode: Required, ca: ['{}']}}", ca.display());
    // When the test is root, only root can create this file: it is opened before the privileges are dropped.
    setup.access_log = Some("access.log");
    let backend = setup.backend.to_string();
    let (terminator, router) = setup.start().await;

    let client = Client {
        versions: TLS_1_3,
        certificate: Some(clients.client("manager")),
        alpn: vec![b"h2".to_vec()],
        ..Client::default()
    };
    let mut stream = client.connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    echo(&mut stream).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(soon("the end", stream.read(&mut [0; 1])).await.unwrap(), 0);
    let stranger = Client { versions: TLS_1_3, ..Client::default() };
    assert_eq!(stranger.alert(hand_over(&router, NAME).await, NAME).await, 116);

    let lines = eventually("two lines are written", async || {
        let text = fs::read_to_string(terminator.folder.path().join("access.log")).ok()?;
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() == 2).then_some(lines)
    })
    .await;
    for (field, expected) in [
        ("id", "0000000000000007"),
        ("listener", "tls"),
        ("tenant", "acme"),
        ("mode", "terminate"),
        ("client", "192.0.2.7:50000"),
        ("server_name", NAME),
        ("backend", &backend),
        ("data_path", "copy"),
        ("tls_version", "1.3"),
        ("client_identity", "manager"),
        ("outcome", "ok"),
    ] {
        assert_eq!(lines[0][field], expected, "{field} of {}", lines[0]);
    }
    assert_eq!(lines[0]["alpn"], serde_json::json!(["h2"]));
    assert_eq!((&lines[0]["client_to_backend"], &lines[0]["backend_to_client"]), (&4.into(), &4.into()));
    assert!(lines[0]["tls_cipher"].as_str().unwrap().starts_with("TLS_"), "{}", lines[0]);
    for duration in ["hello_ms", "handshake_ms", "connect_ms", "total_ms"] {
        assert!(lines[0][duration].is_number(), "{duration} of {}", lines[0]);
    }
    assert_eq!(lines[1]["outcome"], "handshake_failed");
    assert!(lines[1]["reason"].as_str().unwrap().starts_with("client_certificate_missing: "), "{}", lines[1]);
}
