//! Resumption never goes around the check of a client's certificate, and a ticket means something to one process alone.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use connection::handoff::HandoffSender;
use rcgen::{CertificateParams, DnType};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::support::backend::Backend;
use crate::support::client::{Client, TLS_1_2, TLS_1_3, alert_number, echo};
use crate::support::patience::{eventually, soon};
use crate::support::pki::{Authority, KeyKind, Pair};
use crate::support::process::{Setup, hand_over};

const NAME: &str = "api.acme.example";

async fn setup(clients: Option<(&str, &Authority)>) -> Setup {
    let mut setup = Setup::new(Backend::new().await.echo());
    setup.certificate(&Authority::new("servers").server(&[NAME], KeyKind::Ecdsa));
    if let Some((mode, clients)) = clients {
        let (ca, crl) =
            (setup.file("clients.crt", &clients.ca_pem()), setup.file("clients.crl", &clients.crl(&[], 2100)));
        setup.tls = format!(
            ", clientValidation: {{mode: {mode}, ca: ['{}'], crl: ['{}'], allow: [{{commonName: manager}}]}}",
            ca.display(),
            crl.display()
        );
    }
    setup
}

/// A client that keeps what it could resume with.
fn keeping_tickets(certificate: Option<&Pair>, version: u16) -> TlsConnector {
    let versions = if version == 12 { TLS_1_2 } else { TLS_1_3 };
    Client { certificate: certificate.cloned(), versions, ..Client::default() }.connector()
}

/// How the handshake went, with a word to and fro after it, so that tickets that come late are seen.
async fn connect(router: &HandoffSender, connector: &TlsConnector) -> io::Result<HandshakeKind> {
    let server_name = ServerName::try_from(NAME).unwrap();
    let connect = connector.connect(server_name, hand_over(router, NAME).await);
    let mut stream = soon("the handshake ends", connect).await?;
    echo(&mut stream).await?;
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    stream.shutdown().await?;
    soon("the end", stream.read(&mut [0; 1])).await?;
    Ok(kind)
}

async fn alert(router: &HandoffSender, connector: &TlsConnector) -> Option<u8> {
    connect(router, connector).await.err().and_then(|error| alert_number(&error))
}

#[tokio::test]
async fn a_ticket_is_good_at_the_process_that_gave_it_and_nowhere_else() {
    for version in [12, 13] {
        let (_terminator, router) = setup(None).await.start().await;
        let (_other, other) = setup(None).await.start().await;
        let client = keeping_tickets(None, version);
        assert_eq!(connect(&router, &client).await.unwrap(), HandshakeKind::Full);
        assert_eq!(connect(&router, &client).await.unwrap(), HandshakeKind::Resumed);
        assert_eq!(connect(&other, &client).await.unwrap(), HandshakeKind::Full, "another tenant's ticket");
    }
}

#[tokio::test]
async fn a_ticket_outlives_a_renewed_certificate() {
    let (terminator, router) = setup(None).await.start().await;
    let client = keeping_tickets(None, 13);
    assert_eq!(connect(&router, &client).await.unwrap(), HandshakeKind::Full);
    let next = Authority::new("servers").server(&[NAME], KeyKind::Ecdsa);
    let secret = terminator.folder.path().join("secret-0");
    fs::write(secret.join("tls.crt"), &next.chain_pem).unwrap();
    fs::write(secret.join("tls.key"), &next.key_pem).unwrap();
    terminator.log.line_with(&["certificate renewed"]).await;
    assert_eq!(connect(&router, &client).await.unwrap(), HandshakeKind::Resumed);
}

#[tokio::test]
async fn clients_with_certificates_show_them_each_time() {
    let clients = Authority::new("clients");
    let manager = clients.client("manager");
    for version in [12, 13] {
        for mode in ["Required", "Optional"] {
            let (_terminator, router) = setup(Some((mode, &clients))).await.start().await;
            let client = keeping_tickets(Some(&manager), version);
            for _ in 0..2 {
                assert_eq!(connect(&router, &client).await.unwrap(), HandshakeKind::Full, "{mode}");
            }
            if mode == "Optional" {
                let nobody = keeping_tickets(None, version);
                for _ in 0..2 {
                    assert_eq!(connect(&router, &nobody).await.unwrap(), HandshakeKind::Full, "{mode}");
                }
            }
        }
    }
}

#[tokio::test]
async fn who_was_let_in_once_is_refused_once_revoked_or_once_the_ca_is_another() {
    for version in [12, 13] {
        let clients = Authority::new("clients");
        let manager = clients.client("manager");
        let (terminator, router) = setup(Some(("Required", &clients))).await.start().await;
        let client = keeping_tickets(Some(&manager), version);
        connect(&router, &client).await.unwrap();
        fs::write(terminator.folder.path().join("clients.crl"), clients.crl(&[&manager], 2100)).unwrap();
        eventually("revoked", async || alert(&router, &client).await.filter(|number| *number == 44)).await;

        fs::write(terminator.folder.path().join("clients.crt"), Authority::new("others").ca_pem()).unwrap();
        eventually("unknown", async || alert(&router, &client).await.filter(|number| *number == 48)).await;
    }
}

#[tokio::test]
async fn who_was_let_in_once_is_refused_when_its_certificate_has_ended() {
    let clients = Authority::new("clients");
    let (_terminator, router) = setup(Some(("Required", &clients))).await.start().await;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "manager");
    params.not_after = (SystemTime::now() + Duration::from_secs(6)).into();
    let manager = clients.client_with(params);
    let connectors = [12, 13].map(|version| keeping_tickets(Some(&manager), version));
    for client in &connectors {
        connect(&router, client).await.unwrap();
    }
    for client in &connectors {
        eventually("its time is over", async || alert(&router, client).await.filter(|number| *number == 45)).await;
    }
}

#[tokio::test]
async fn who_was_let_in_once_is_refused_by_other_rules() {
    let clients = Authority::new("clients");
    let manager = clients.client("manager");
    let (_before, before) = setup(Some(("Required", &clients))).await.start().await;
    let mut changed = setup(Some(("Required", &clients))).await;
    changed.tls = changed.tls.replace("commonName: manager", "commonName: director");
    let (_after, after) = changed.start().await;
    for version in [12, 13] {
        let client = keeping_tickets(Some(&manager), version);
        connect(&before, &client).await.unwrap();
        assert_eq!(alert(&after, &client).await, Some(49));
    }
}
