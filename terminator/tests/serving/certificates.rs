//! Which certificate a client gets.

use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::process::Command;

use crate::support::backend::Backend;
use crate::support::client::{Client, TLS_1_2, TLS_1_3};
use crate::support::patience::soon;
use crate::support::pki::{Authority, KeyKind, Pair};
use crate::support::process::{Setup, front, hand_over};

fn leaf(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.chain_pem.as_bytes()).unwrap()
}

#[tokio::test]
async fn name_and_key_type_choose_the_certificate() {
    let authority = Authority::new("a");
    let mut setup = Setup::new(Backend::new().await.echo());
    let rsa = authority.server(&["api.acme.example"], KeyKind::Rsa);
    let ecdsa = authority.server(&["api.acme.example"], KeyKind::Ecdsa);
    let wildcard = authority.server(&["*.acme.example"], KeyKind::Ecdsa);
    for pair in [&rsa, &wildcard, &ecdsa] {
        setup.certificate(pair);
    }
    let (_terminator, router) = setup.start().await;
    let with = |schemes: &[SignatureScheme], version| Client {
        schemes: schemes.to_vec(),
        versions: if version == 12 { TLS_1_2 } else { TLS_1_3 },
        ..Client::default()
    };
    let (ec, pss) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256);
    for version in [12, 13] {
        for (name, schemes, expected) in [
            ("api.acme.example", &[pss, ec][..], &ecdsa),
            ("api.acme.example", &[ec][..], &ecdsa),
            ("api.acme.example", &[pss][..], &rsa),
            ("www.acme.example", &[pss, ec][..], &wildcard),
        ] {
            let tcp = hand_over(&router, name).await;
            let stream = with(schemes, version).connect(tcp, name).await.unwrap();
            let served = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
            assert!(served == leaf(expected), "TLS {version}, {name}, {schemes:?}");
        }
    }
    let tcp = hand_over(&router, "api.acme.example").await;
    let no_key = with(&[SignatureScheme::ED25519], 13);
    assert_eq!(no_key.alert(tcp, "api.acme.example").await, 40, "handshake_failure");
}

#[tokio::test]
async fn openssl_verifies_the_chain_and_resumes_its_session() {
    let authority = Authority::new("a");
    let mut setup = Setup::new(Backend::new().await.echo());
    setup.certificate(&authority.server(&["api.acme.example"], KeyKind::Ecdsa));
    let ca = setup.file("ca.crt", &authority.ca_pem());
    let (_terminator, router) = setup.start().await;
    let address = front(router, "api.acme.example").await;
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-servername", "api.acme.example", "-verify_hostname", "api.acme.example"]);
    // -reconnect makes five more connections with the first one's session; TLS 1.2, where that works without a read.
    openssl.args(["-tls1_2", "-reconnect", "-verify_return_error", "-CAfile"]).arg(ca);
    openssl.args(["-connect", &address.to_string()]).stdin(std::process::Stdio::null());
    let output = soon("openssl ends", openssl.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Verify return code: 0 (ok)"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Reused, TLSv1.2"), "{text}");
}
