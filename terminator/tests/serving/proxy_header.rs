//! The PROXY v2 header that a backend gets, read by the words of the specification (haproxy.org, doc/proxy-protocol.txt,
//! section 2.2) and not by the library that wrote it.

use rcgen::{CertificateParams, DnType, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::client::{Client, TLS_1_2, TLS_1_3};
use crate::support::patience::soon;
use crate::support::pki::{Authority, KeyKind};
use crate::support::process::{Setup, hand_over};

const NAME: &str = "api.acme.example";

#[tokio::test]
async fn everything_about_an_identified_client_is_told_and_checksummed() {
    let clients = Authority::new("clients");
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "manager");
    params.subject_alt_names = vec![SanType::URI("spiffe://acme/prod/web".try_into().unwrap())];
    let manager = clients.client_with(params);
    let der = CertificateDer::from_pem_slice(manager.chain_pem.as_bytes()).unwrap();
    for (versions, version, cipher) in [(TLS_1_2, "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_"), (TLS_1_3, "TLSv1.3", "TLS_AES_")]
    {
        let backend = Backend::new().await;
        let mut setup = setup(&backend, "authority, alpn, ssl, clientCertificate, groups, uniqueId, crc32c");
        let ca = setup.file("clients.crt", &clients.ca_pem());
        setup.tls = format!(
            ", alpn: [h2], clientValidation: {{mode: Required, ca: ['{}'], allow: [\
             {{uri: 'spiffe://acme/*/web', groups: [prod]}}, {{commonName: manager, groups: [managers, prod]}}]}}",
            ca.display()
        );
        let (_terminator, router) = setup.start().await;
        let alpn = vec![b"h2".to_vec()];
        let client = Client { certificate: Some(manager.clone()), versions, alpn, ..Client::default() };
        let _stream = client.connect(hand_over(&router, NAME).await, NAME).await.unwrap();
        let header = Header::read(backend.accept().await).await;

        // TCP over IPv4, from 192.0.2.7:50000 to 127.0.0.1:8443: what the hand-off said.
        assert_eq!((header.command, header.family), (0x21, 0x11));
        assert_eq!(header.addresses, [192, 0, 2, 7, 127, 0, 0, 1, 0xC3, 0x50, 0x20, 0xFB]);
        assert_eq!(header.text(0x01), "h2");
        assert_eq!(header.text(0x02), NAME);
        assert_eq!(header.text(0x05), "0000000000000007");
        let ssl = header.ssl();
        // PP2_CLIENT_SSL, PP2_CLIENT_CERT_CONN, PP2_CLIENT_CERT_SESS; verify is 0 for a verified certificate.
        assert_eq!((ssl.client, ssl.verify), (0x07, 0));
        assert_eq!((ssl.text(0x21), ssl.text(0x22)), (version.to_owned(), "manager".to_owned()));
        assert!(ssl.text(0x23).starts_with(cipher), "{}", ssl.text(0x23));
        assert_eq!(header.value(0xE0), Some(&*der.to_vec()));
        assert_eq!(header.text(0xE1), "prod,managers");
        assert!(header.checksum_is_right());
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_told_as_one() {
    let backend = Backend::new().await;
    let mut setup = setup(&backend, "alpn, ssl, clientCertificate, groups, crc32c");
    let ca = setup.file("clients.crt", &Authority::new("clients").ca_pem());
    setup.tls = format!(", clientValidation: {{mode: Optional, ca: ['{}']}}", ca.display());
    let (_terminator, router) = setup.start().await;
    let _stream = Client::default().connect(hand_over(&router, NAME).await, NAME).await.unwrap();
    let header = Header::read(backend.accept().await).await;
    let ssl = header.ssl();
    assert_eq!((ssl.client, ssl.verify != 0), (0x01, true));
    assert_eq!((ssl.text(0x21), ssl.value(0x22)), ("TLSv1.3".to_owned(), None));
    for absent in [0x01, 0x02, 0x05, 0xE0, 0xE1] {
        assert_eq!(header.value(absent), None, "{absent:#x}");
    }
    assert!(header.checksum_is_right());
}

fn setup(backend: &Backend, tlvs: &str) -> Setup {
    let mut setup = Setup::new(backend.address());
    setup.certificate(&Authority::new("servers").server(&[NAME], KeyKind::Ecdsa));
    setup.tenant = format!("proxyProtocol: {{ version: v2, tlvs: [{tlvs}] }}");
    setup
}

struct Header {
    bytes: Vec<u8>,
    command: u8,
    family: u8,
    addresses: Vec<u8>,
    tlvs: Vec<(u8, Vec<u8>)>,
}

impl Header {
    async fn read(mut backend: TcpStream) -> Self {
        let mut bytes = vec![0; 16];
        soon("the header's begin comes", backend.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(bytes[..12], *b"\r\n\r\n\0\r\nQUIT\n");
        let mut rest = vec![0; usize::from(u16::from_be_bytes([bytes[14], bytes[15]]))];
        soon("the rest comes", backend.read_exact(&mut rest)).await.unwrap();
        let (command, family) = (bytes[12], bytes[13]);
        bytes.extend(&rest);
        Self { bytes, command, family, addresses: rest[..12].to_vec(), tlvs: tlvs(&rest[12..]) }
    }

    fn value(&self, kind: u8) -> Option<&[u8]> {
        value(&self.tlvs, kind)
    }

    fn text(&self, kind: u8) -> String {
        String::from_utf8(self.value(kind).unwrap_or_default().to_vec()).unwrap()
    }

    fn ssl(&self) -> Ssl {
        let value = self.value(0x20).unwrap();
        let verify = u32::from_be_bytes(value[1..5].try_into().unwrap());
        Ssl { client: value[0], verify, tlvs: tlvs(&value[5..]) }
    }

    /// PP2_TYPE_CRC32C: over the whole header, with zeroes in its own place.
    fn checksum_is_right(&self) -> bool {
        let told = self.value(0x03).unwrap();
        let place = self.bytes.windows(7).position(|seven| seven == [&[0x03, 0, 4], told].concat()).unwrap() + 3;
        let mut bytes = self.bytes.clone();
        bytes[place..place + 4].fill(0);
        crc32c(&bytes).to_be_bytes() == *told
    }
}

struct Ssl {
    client: u8,
    verify: u32,
    tlvs: Vec<(u8, Vec<u8>)>,
}

impl Ssl {
    fn value(&self, kind: u8) -> Option<&[u8]> {
        value(&self.tlvs, kind)
    }

    fn text(&self, kind: u8) -> String {
        String::from_utf8(self.value(kind).unwrap_or_default().to_vec()).unwrap()
    }
}

fn tlvs(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut tlvs = Vec::new();
    while let [kind, high, low, rest @ ..] = bytes {
        let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        tlvs.push((*kind, value.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a TLV at the end: {bytes:?}");
    tlvs
}

fn value(tlvs: &[(u8, Vec<u8>)], kind: u8) -> Option<&[u8]> {
    tlvs.iter().find(|tlv| tlv.0 == kind).map(|tlv| &*tlv.1)
}

/// RFC 4960 appendix B, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 })
    })
}

#[test]
fn the_checksum_of_this_test_is_the_standards() {
    // RFC 3720 section B.4: 32 bytes of zeroes.
    assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
}
