//! What each captured hello says. The fingerprints were computed by an independent program; those of cffi-chrome124,
//! cffi-chrome146 and cffi-edge101 are also published for these browsers.

use client_hello::{ClientHelloParser, Parse, ProtocolVersion};

/// A hello as its client sent it to a listener that never answered.
pub(crate) struct Capture {
    pub(crate) client: &'static str,
    pub(crate) bytes: &'static [u8],
    ja4: &'static str,
    alpn: &'static [&'static str],
    has_ech: bool,
    is_post_quantum: bool,
}

macro_rules! capture {
    ($client:literal, $ja4:literal, $alpn:expr, ech: $ech:literal, post_quantum: $pq:literal) => {
        Capture {
            client: $client,
            bytes: include_bytes!(concat!("../captures/", $client, ".bin")),
            ja4: $ja4,
            alpn: &$alpn,
            has_ech: $ech,
            is_post_quantum: $pq,
        }
    };
}

#[rustfmt::skip]
pub(crate) const CAPTURES: [Capture; 18] = [
    capture!("cffi-chrome124", "t13d1516h2_8daaf6152771_02713d6af862", ["h2", "http/1.1"], ech: true, post_quantum: false),
    capture!("cffi-chrome146", "t13d1516h2_8daaf6152771_d8a2da3f94cd", ["h2", "http/1.1"], ech: true, post_quantum: true),
    capture!("cffi-edge101", "t13d1516h2_8daaf6152771_e5627efa2ab1", ["h2", "http/1.1"], ech: false, post_quantum: false),
    capture!("cffi-firefox135", "t13d1717h2_5b57614c22b0_3cbfd9057e0d", ["h2", "http/1.1"], ech: true, post_quantum: true),
    capture!("cffi-safari260", "t13d2014h2_a09f3c656075_d0a99439f9b1", ["h2", "http/1.1"], ech: false, post_quantum: true),
    capture!("cffi-tor145", "t13d1513h2_8daaf6152771_748f4c70de1c", ["h2", "http/1.1"], ech: true, post_quantum: false),
    capture!("chromium", "t13d1517h2_8daaf6152771_cb7bf5808d99", ["h2", "http/1.1"], ech: true, post_quantum: true),
    capture!("curl-openssl3.0", "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6", ["h2", "http/1.1"], ech: false, post_quantum: false),
    capture!("gnutls3.7", "t13d291300_723694b0fccc_2cc26d266019", [], ech: false, post_quantum: false),
    capture!("go1.27", "t13d131100_f57a46bbacb6_f50d94e863eb", [], ech: false, post_quantum: true),
    capture!("grpcio", "t13d0712h2_04ca88ad2b9b_fde2939304f6", ["h2"], ech: false, post_quantum: true),
    capture!("k6", "t13d1311h2_f57a46bbacb6_e7c285222651", ["h2", "http/1.1"], ech: false, post_quantum: false),
    capture!("kubectl1.20deb", "t13d1910h2_9dc949149365_97f8aa674fd9", ["h2", "http/1.1"], ech: false, post_quantum: false),
    capture!("node20", "t13d591000_a33745022dd6_1f22a2ca17c4", [], ech: false, post_quantum: false),
    capture!("nss-tstclnt", "t13d351100_948423e5275c_496733ea6893", [], ech: false, post_quantum: false),
    capture!("oha-rustls", "t13d101000_61a7ad8aa9b6_f9531d972513", [], ech: false, post_quantum: true),
    capture!("openssl3.0", "t13d311000_e8f1e7e78f70_1f22a2ca17c4", [], ech: false, post_quantum: false),
    capture!("pyopenssl", "t13d301100_1d37bd780c83_0d46a1bf4a7c", [], ech: false, post_quantum: true),
];

/// The name that every client was told to ask for.
const NAME: &str = "x.test";

#[test]
fn every_capture_is_in_the_table() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures");
    let mut files: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let table: Vec<String> = CAPTURES.iter().map(|capture| format!("{}.bin", capture.client)).collect();
    assert_eq!(files, table);
}

#[test]
fn every_capture_says_what_its_client_offers() {
    let mut parser = ClientHelloParser::new(65_536);
    for capture in &CAPTURES {
        let Parse::ClientHello(hello) = parser.parse(capture.bytes) else {
            panic!("{} is not a hello", capture.client)
        };
        let client = capture.client;
        assert_eq!(hello.server_name, Some(NAME), "{client}");
        assert_eq!(hello.ja4(), capture.ja4, "{client}");
        let alpn: Vec<_> = hello.alpn.iter().map(<[u8]>::escape_ascii).collect();
        let alpn: Vec<_> = alpn.iter().map(ToString::to_string).collect();
        assert_eq!(alpn, capture.alpn, "{client}");
        assert_eq!(hello.has_ech, capture.has_ech, "{client}");
        assert_eq!(hello.is_post_quantum, capture.is_post_quantum, "{client}");
        assert_eq!(hello.versions.highest(), Some(ProtocolVersion::TLS13), "{client}");
        assert!(hello.versions.contains(ProtocolVersion::TLS12), "{client}");
        assert_eq!(hello.record_bytes, capture.bytes.len(), "{client}");
    }
}
