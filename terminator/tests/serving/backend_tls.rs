//! TLS towards the backend: whom it trusts, what it shows, and what becomes of a backend that is not trusted.

use std::fs;
use std::path::Path;

use connection::handoff::{HandoffSender, TerminatorStatus};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::backend::Backend;
use crate::support::client::{Client, TLS_1_2, echo};
use crate::support::patience::{eventually, soon};
use crate::support::pki::{Authority, KeyKind, Pair};
use crate::support::process::{Setup, Terminator, ended, hand_over, status_shows};
use crate::support::tls_backend::{Running, TlsBackend, trusting};

const NAME: &str = "api.acme.example";
const BACKEND: &str = "svc.internal";

/// A terminator whose tenant says this about TLS to its backend.
async fn start(backend: std::net::SocketAddr, tenant: impl FnOnce(&Path) -> String) -> (Terminator, HandoffSender) {
    let mut setup = Setup::new(backend);
    setup.certificate(&Authority::new("servers").server(&[NAME], KeyKind::Ecdsa));
    setup.tls = ", alpn: [h2, http/1.1]".to_owned();
    setup.tenant = tenant(setup.folder.path());
    setup.access_log = Some("access.log");
    setup.start().await
}

async fn start_trusting(backend: &Running, authority: &Authority, more: &str) -> (Terminator, HandoffSender) {
    // The confinement is as tight as without TLS to the backend, and everything still works.
    let required = "\nsandbox: { policy: Required }";
    let required = if nix::unistd::geteuid().is_root() { required } else { "" };
    start(backend.address, |folder| trusting(folder, authority, more) + required).await
}

async fn works(router: &HandoffSender) {
    echo(&mut Client::default().connect(hand_over(router, NAME).await, NAME).await.unwrap()).await.unwrap();
}

/// The client's end after its handshake is a reset.
async fn is_refused(router: &HandoffSender, client: &Client) {
    let mut stream = client.connect(hand_over(router, NAME).await, NAME).await.unwrap();
    let end = soon("the connection ends", stream.read(&mut [0; 1])).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

fn backend_handshakes(status: &TerminatorStatus, reason: &str) -> u64 {
    status.backend_handshakes.iter().filter(|count| count.reason == reason).map(|count| count.count).sum()
}

fn leaf(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.chain_pem.as_bytes()).unwrap()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of the public key, as `openssl x509 -pubkey | openssl pkey -pubin -outform der | sha256sum` prints it.
fn key_pin(pair: &Pair) -> String {
    digest(x509_parser::parse_x509_certificate(&leaf(pair)).unwrap().1.public_key().raw)
}

#[tokio::test]
async fn a_backend_that_is_trusted_gets_the_plaintext_over_tls_and_the_ends_are_passed_on() {
    let authority = Authority::new("backends");
    let backend = TlsBackend::new(&authority.server(&[BACKEND], KeyKind::Ecdsa)).start().await;
    let (_terminator, router) = start_trusting(&backend, &authority, "").await;
    let mut stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    echo(&mut stream).await.unwrap();
    let sent: Vec<u8> = (0..2_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (sent, ()) = tokio::join!(
        async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
            sent
        },
        async {
            let mut back = Vec::new();
            soon("everything comes back, with its end", reader.read_to_end(&mut back)).await.unwrap();
            assert_eq!(back.len(), 2_000_000);
        }
    );
    drop(sent);
    assert_eq!(backend.last().server_name.as_deref(), Some(BACKEND));
    status_shows(&router, "it is counted", |status| {
        backend_handshakes(status, "") == 1 && ended(status, "ok") == 1 && status.backend_to_client == 2_000_004
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_is_not_trusted_is_refused_audited_and_counted() {
    let (ours, theirs) = (Authority::new("backends"), Authority::new("backends"));
    let good = ours.server(&[BACKEND], KeyKind::Ecdsa);
    let pin = format!(", pins: ['{}']", "00".repeat(32));
    let old = TlsBackend { versions: TLS_1_2, ..TlsBackend::new(&good) };
    for (backend, more, reason) in [
        (TlsBackend::new(&theirs.server(&[BACKEND], KeyKind::Ecdsa)), "", "unknown_ca"),
        (TlsBackend::new(&ours.server(&["other.internal"], KeyKind::Rsa)), "", "wrong_name"),
        (TlsBackend::new(&ours.dated_server(&[BACKEND], (2020, 2021))), "", "expired"),
        (TlsBackend::new(&ours.dated_server(&[BACKEND], (2090, 2091))), "", "expired"),
        (TlsBackend::new(&ours.client(BACKEND)), "", "certificate_invalid"),
        (TlsBackend::new(&good), pin.as_str(), "pin_mismatch"),
        (old, ", minVersion: '1.3'", "protocol_version"),
    ] {
        let shown = digest(&leaf(&backend.pair));
        let backend = backend.start().await;
        let (terminator, router) = start_trusting(&backend, &ours, more).await;
        is_refused(&router, &Client::default()).await;
        status_shows(&router, reason, |status| {
            backend_handshakes(status, reason) == 1 && ended(status, "backend_tls_failed") == 1
        })
        .await;
        let line = terminator.log.line_with(&["audit", "backend refused", reason]).await;
        assert!(reason == "protocol_version" || line.contains(&shown), "{line}");
        let log = terminator.folder.path().join("access.log");
        let written = eventually("the access log has it", async || {
            fs::read_to_string(&log).ok().filter(|text| text.contains("backend_tls_failed"))
        });
        assert!(written.await.contains(&format!("TLS with backend {}: {reason}: ", backend.address)));
    }
}

#[tokio::test]
async fn a_backend_that_speaks_no_tls_or_nothing_at_all_is_refused() {
    let authority = Authority::new("backends");
    let plain = Backend::new().await.echo();
    let (_terminator, router) = start(plain, |folder| trusting(folder, &authority, "")).await;
    is_refused(&router, &Client::default()).await;
    status_shows(&router, "misbehaved", |status| backend_handshakes(status, "backend_misbehaved") == 1).await;

    let silent = Backend::new().await;
    let short = |folder: &Path| trusting(folder, &authority, "") + "\nconnectTimeout: 200ms";
    let (_terminator, router) = start(silent.address(), short).await;
    is_refused(&router, &Client::default()).await;
    status_shows(&router, "timeout", |status| backend_handshakes(status, "timeout") == 1).await;
}

#[tokio::test]
async fn without_a_name_the_address_must_be_in_the_certificate() {
    let authority = Authority::new("backends");
    for (name, works_out) in [("127.0.0.1", true), (BACKEND, false)] {
        let backend = TlsBackend::new(&authority.server(&[name], KeyKind::Ecdsa)).start().await;
        let nameless = |folder: &Path| trusting(folder, &authority, "").replace("serverName: svc.internal,", "");
        let (_terminator, router) = start(backend.address, nameless).await;
        if works_out {
            works(&router).await;
            assert_eq!(backend.last().server_name, None);
        } else {
            is_refused(&router, &Client::default()).await;
            status_shows(&router, "name", |status| backend_handshakes(status, "wrong_name") == 1).await;
        }
    }
}

#[tokio::test]
async fn pins_are_of_the_certificate_or_the_key_and_several_allow_a_rotation() {
    let authority = Authority::new("backends");
    let [first, second, third] = [0; 3].map(|_| authority.server(&[BACKEND], KeyKind::Ecdsa));
    let backend = TlsBackend::new(&first).start().await;
    let pins = format!(", pins: ['{}', '{}']", digest(&leaf(&first)), key_pin(&second));
    let (_terminator, router) = start_trusting(&backend, &authority, &pins).await;
    works(&router).await;
    backend.become_(&TlsBackend::new(&second));
    works(&router).await;
    backend.become_(&TlsBackend::new(&third));
    is_refused(&router, &Client::default()).await;
    status_shows(&router, "pins", |status| {
        (backend_handshakes(status, ""), backend_handshakes(status, "pin_mismatch")) == (2, 1)
    })
    .await;
}

#[tokio::test]
async fn pins_alone_take_the_place_of_a_ca_but_not_of_dates_and_of_a_name_that_was_given() {
    let authority = Authority::new("nobody trusts it");
    let alone = |pair: &Pair, name: &str| format!("backendTls: {{ pins: ['{}']{name} }}", key_pin(pair));
    let good = authority.server(&[BACKEND], KeyKind::Ecdsa);
    let expired = authority.dated_server(&[BACKEND], (2020, 2021));
    for (pair, name, reason) in [
        (&good, "", ""),
        (&good, ", serverName: svc.internal", ""),
        (&good, ", serverName: other.internal", "wrong_name"),
        (&expired, "", "expired"),
    ] {
        let backend = TlsBackend::new(pair).start().await;
        let (_terminator, router) = start(backend.address, |_| alone(pair, name)).await;
        if reason.is_empty() {
            works(&router).await;
        } else {
            is_refused(&router, &Client::default()).await;
        }
        status_shows(&router, reason, |status| backend_handshakes(status, reason) == 1).await;
    }
}

#[tokio::test]
async fn the_ca_bundle_is_reloaded_and_a_broken_one_changes_nothing() {
    let (old, new) = (Authority::new("backends"), Authority::new("backends"));
    let backend = TlsBackend::new(&old.server(&[BACKEND], KeyKind::Ecdsa)).start().await;
    let (terminator, router) = start_trusting(&backend, &old, "").await;
    works(&router).await;
    let ca = terminator.folder.path().join("backend-ca.crt");
    fs::write(&ca, "no certificate").unwrap();
    terminator.log.line_with(&["WARN", "backend CA files cannot be used", "backend-ca.crt"]).await;
    works(&router).await;
    // Both generations, which have one name.
    fs::write(&ca, old.ca_pem() + &new.ca_pem()).unwrap();
    terminator.log.line_with(&["backend CAs renewed", "authorities=2"]).await;
    works(&router).await;
    backend.become_(&TlsBackend::new(&new.server(&[BACKEND], KeyKind::Ecdsa)));
    works(&router).await;
    fs::write(&ca, old.ca_pem()).unwrap();
    terminator.log.line_with(&["backend CAs renewed", "authorities=1"]).await;
    is_refused(&router, &Client::default()).await;
}

#[tokio::test]
async fn the_client_certificate_is_shown_to_who_asks_and_rotated_like_the_others() {
    let (authority, clients) = (Authority::new("backends"), Authority::new("clients"));
    let mut backend = TlsBackend::new(&authority.server(&[BACKEND], KeyKind::Ecdsa));
    backend.clients = Some(clients.ca_pem());
    let backend = backend.start().await;
    let (first, second) = (clients.client("acme-edge"), clients.client("acme-edge"));
    let (terminator, router) = start(backend.address, |folder| {
        let secret = folder.join("client");
        fs::create_dir(&secret).unwrap();
        write(&secret, &first);
        trusting(folder, &authority, &format!(", clientCertificate: {{ secretDir: '{}' }}", secret.display()))
    })
    .await;
    works(&router).await;
    assert_eq!(backend.last().client.unwrap(), leaf(&first).to_vec());

    let secret = terminator.folder.path().join("client");
    fs::write(secret.join("tls.crt"), &second.chain_pem).unwrap();
    terminator.log.line_with(&["WARN", "still serving the last good certificate", "client"]).await;
    works(&router).await;
    assert_eq!(backend.last().client.unwrap(), leaf(&first).to_vec());
    write(&secret, &second);
    terminator.log.line_with(&["certificate renewed", "client"]).await;
    works(&router).await;
    assert_eq!(backend.last().client.unwrap(), leaf(&second).to_vec());
    let name = secret.display().to_string();
    status_shows(&router, "its end is told", |status| status.certificates.iter().any(|one| one.name == name)).await;
}

fn write(folder: &Path, pair: &Pair) {
    fs::write(folder.join("tls.crt"), &pair.chain_pem).unwrap();
    fs::write(folder.join("tls.key"), &pair.key_pem).unwrap();
}

#[tokio::test]
async fn a_backend_that_refuses_our_certificate_says_so_and_is_unhealthy() {
    let (authority, clients) = (Authority::new("backends"), Authority::new("clients"));
    let mut backend = TlsBackend::new(&authority.server(&[BACKEND], KeyKind::Ecdsa));
    backend.clients = Some(clients.ca_pem());
    let backend = backend.start().await;
    let (_terminator, router) = start_trusting(&backend, &authority, "").await;
    is_refused(&router, &Client::default()).await;
    status_shows(&router, "an alert", |status| ended(status, "backend_tls_failed") == 1).await;

    let checked = |folder: &Path| trusting(folder, &authority, "") + CHECKED;
    let (terminator, router) = start(backend.address, checked).await;
    terminator.log.line_with(&["WARN", "backend is unhealthy", "CertificateRequired"]).await;
    status_shows(&router, "it is down", |status| !status.backends[0].up).await;
}

#[tokio::test]
async fn health_checks_shake_hands() {
    let (ours, theirs) = (Authority::new("backends"), Authority::new("backends"));
    let backend = TlsBackend::new(&ours.server(&[BACKEND], KeyKind::Ecdsa)).start().await;
    let checked = |folder: &Path| trusting(folder, &ours, "") + CHECKED;
    let (terminator, router) = start(backend.address, checked).await;
    status_shows(&router, "probes succeed", |status| backend_handshakes(status, "") > 2 && status.backends[0].up).await;
    backend.become_(&TlsBackend::new(&theirs.server(&[BACKEND], KeyKind::Ecdsa)));
    terminator.log.line_with(&["WARN", "backend is unhealthy", "unknown_ca"]).await;
    status_shows(&router, "it is down", |status| !status.backends[0].up).await;
    is_refused(&router, &Client::default()).await;
    status_shows(&router, "nobody is asked", |status| ended(status, "none_healthy") == 1).await;
    backend.become_(&TlsBackend::new(&ours.server(&[BACKEND], KeyKind::Ecdsa)));
    status_shows(&router, "it is back", |status| status.backends[0].up).await;
    works(&router).await;
}

#[tokio::test]
async fn connections_that_fail_the_verification_count_against_the_backend_too() {
    let (ours, theirs) = (Authority::new("backends"), Authority::new("backends"));
    let backend = TlsBackend::new(&theirs.server(&[BACKEND], KeyKind::Ecdsa)).start().await;
    // The first probe comes at once and the next one in an hour.
    let check = "\nhealthCheck: { interval: 1h, timeout: 2s, unhealthyAfter: 3, healthyAfter: 1 }";
    let (_terminator, router) = start(backend.address, |folder| trusting(folder, &ours, "") + check).await;
    status_shows(&router, "the probe", |status| backend_handshakes(status, "unknown_ca") == 1).await;
    is_refused(&router, &Client::default()).await;
    is_refused(&router, &Client::default()).await;
    status_shows(&router, "it is down", |status| !status.backends[0].up).await;
}

#[tokio::test]
async fn alpn_is_passed_on_when_wanted_and_must_be_agreed_to() {
    let authority = Authority::new("backends");
    let speaking = |alpn| TlsBackend { alpn, ..TlsBackend::new(&authority.server(&[BACKEND], KeyKind::Ecdsa)) };
    let with = |alpn: &str| Client { alpn: vec![alpn.as_bytes().to_vec()], ..Client::default() };
    let backend = speaking(&["http/1.1", "h2"]).start().await;
    let (_terminator, router) = start_trusting(&backend, &authority, ", passAlpn: true").await;
    for alpn in ["h2", "http/1.1"] {
        let mut stream = with(alpn).connect(hand_over(&router, NAME).await, NAME).await.unwrap();
        echo(&mut stream).await.unwrap();
        assert_eq!(backend.last().alpn.as_deref(), Some(alpn));
    }
    works(&router).await;
    assert_eq!(backend.last().alpn, None);

    // It refuses by an alert, or passes over what it does not know.
    for (number, alpn) in [&["http/1.1"][..], &[][..]].into_iter().enumerate() {
        backend.become_(&speaking(alpn));
        is_refused(&router, &with("h2")).await;
        let count = number as u64 + 1;
        status_shows(&router, "no h2", |status| backend_handshakes(status, "no_application_protocol") == count).await;
    }
    // Who knows no ALPN speaks HTTP/1.1.
    echo(&mut with("http/1.1").connect(hand_over(&router, NAME).await, NAME).await.unwrap()).await.unwrap();

    let backend = speaking(&["h2"]).start().await;
    let (_terminator, router) = start_trusting(&backend, &authority, "").await;
    echo(&mut with("h2").connect(hand_over(&router, NAME).await, NAME).await.unwrap()).await.unwrap();
    assert_eq!(backend.last().alpn, None);
}

#[tokio::test]
async fn a_backend_that_is_cut_off_cuts_the_client_off_without_losing_a_byte() {
    let authority = Authority::new("backends");
    let mut backend = TlsBackend::new(&authority.server(&[BACKEND], KeyKind::Ecdsa));
    backend.cut_after = Some(&[b'x'; 100_000]);
    let backend = backend.start().await;
    let (_terminator, router) = start_trusting(&backend, &authority, "").await;
    let mut stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    stream.write_all(b"question").await.unwrap();
    let mut answer = Vec::new();
    let error = soon("the answer ends", stream.read_to_end(&mut answer)).await.unwrap_err();
    assert_eq!((answer.len(), error.kind()), (100_000, std::io::ErrorKind::UnexpectedEof));
    status_shows(&router, "it is told apart", |status| ended(status, "backend_truncated") == 1).await;
}

#[tokio::test]
async fn a_proxy_header_goes_ahead_of_the_hello() {
    let authority = Authority::new("backends");
    let mut backend = TlsBackend::new(&authority.server(&[BACKEND], KeyKind::Ecdsa));
    let line = "PROXY TCP4 192.0.2.7 127.0.0.1 50000 8443\r\n";
    backend.preamble = line.len();
    let backend = backend.start().await;
    let announced = |folder: &Path| trusting(folder, &authority, "") + "\nproxyProtocol: { version: v1 }";
    let (_terminator, router) = start(backend.address, announced).await;
    works(&router).await;
    assert_eq!(String::from_utf8(backend.last().preamble).unwrap(), line);
}

const CHECKED: &str = "\nhealthCheck: { interval: 20ms, timeout: 2s, unhealthyAfter: 2, healthyAfter: 1 }";
