//! The JA4 fingerprint of a TLS client over TCP, after FoxIO's specification (technical_details/JA4.md of
//! github.com/FoxIO-LLC/ja4). It counts and hashes what [`ClientHello`] holds and reads no bytes of its own.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::extensions::{ALPN, SERVER_NAME};
use crate::hello::ClientHello;
use crate::vector;

/// The sorted fingerprint: `t13d1516h2_8daaf6152771_e5627efa2ab1`.
pub(crate) fn fingerprint(hello: &ClientHello<'_>) -> String {
    let mut cipher_suites: Vec<u16> = hello
        .cipher_suites
        .iter()
        .map(|cipher_suite| cipher_suite.0)
        .filter(|&cipher_suite| !vector::is_grease(cipher_suite))
        .collect();
    cipher_suites.sort_unstable();
    let extensions = || {
        let types = hello.extension_types.iter().copied();
        types.filter(|&kind| !vector::is_grease(kind))
    };
    // The fingerprint is the same whether the client goes to a domain or an address, and with whichever ALPN.
    let hashed_extensions = extensions().filter(|&kind| kind != SERVER_NAME.0 && kind != ALPN.0);
    let signature_algorithms =
        vector::iter_u16(hello.signature_algorithms).filter(|&scheme| !vector::is_grease(scheme));

    let mut ja4 = String::with_capacity(LENGTH);
    let [first, last] = alpn(hello.alpn.iter().next());
    // Writing to a String cannot fail.
    let _ = write!(
        ja4,
        "t{version}{sni}{cipher_suites:02}{extensions:02}{first}{last}_",
        version = version(hello),
        sni = if hello.server_name.is_some() { 'd' } else { 'i' },
        cipher_suites = cipher_suites.len().min(HIGHEST_COUNT),
        extensions = extensions().count().min(HIGHEST_COUNT),
    );
    let mut list = String::with_capacity(5 * (cipher_suites.len().max(hello.extension_types.len())));
    push_list(&mut list, cipher_suites.iter().copied());
    push_hash(&mut ja4, &list);
    ja4.push('_');
    list.clear();
    push_list(&mut list, hashed_extensions);
    if signature_algorithms.clone().next().is_some() {
        list.push('_');
        push_list(&mut list, signature_algorithms);
    }
    push_hash(&mut ja4, &list);
    ja4
}

/// The highest version offered; "00" for one that the specification does not list.
fn version(hello: &ClientHello<'_>) -> &'static str {
    match hello.versions.highest().map(|version| version.0) {
        Some(0x0304) => "13",
        Some(0x0303) => "12",
        Some(0x0302) => "11",
        Some(0x0301) => "10",
        Some(0x0300) => "s3",
        Some(0x0002) => "s2",
        Some(0xfeff) => "d1",
        Some(0xfefd) => "d2",
        Some(0xfefc) => "d3",
        _ => "00",
    }
}

/// The first and last character of the first protocol: as they are if both are alphanumeric, else those of its
/// hexadecimal form; "00" without ALPN.
fn alpn(first_protocol: Option<&[u8]>) -> [char; 2] {
    match first_protocol {
        Some([first, .., last]) => alpn_ends(*first, *last),
        Some([only]) => alpn_ends(*only, *only),
        Some([]) | None => ['0', '0'],
    }
}

fn alpn_ends(first: u8, last: u8) -> [char; 2] {
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        [first.into(), last.into()]
    } else {
        [hex_digit(first >> 4), hex_digit(last & 0x0f)]
    }
}

/// Appends the values as four hexadecimal digits each, separated by commas.
fn push_list(list: &mut String, values: impl Iterator<Item = u16>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            list.push(',');
        }
        push_hex(list, &value.to_be_bytes());
    }
}

/// Appends the first 12 hexadecimal digits of the SHA-256 of `list`, or zeros if that is empty.
fn push_hash(ja4: &mut String, list: &str) {
    if list.is_empty() {
        ja4.push_str("000000000000");
    } else {
        let hash = Sha256::digest(list);
        push_hex(ja4, &hash[..6]);
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push(hex_digit(byte >> 4));
        text.push(hex_digit(byte & 0x0f));
    }
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(nibble & 0x0f)])
}

/// `t13d1516h2_8daaf6152771_e5627efa2ab1`.
const LENGTH: usize = 10 + 1 + 12 + 1 + 12;
/// The counts have two digits; "if there's > 99, which there should never be, then output 99".
const HIGHEST_COUNT: usize = 99;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{client_hello_with, extension, server_name};

    fn ja4(cipher_suites: &[u16], extensions: &[Vec<u8>]) -> String {
        let body = client_hello_with(cipher_suites, extensions).split_off(4);
        let mut types = Vec::new();
        ClientHello::read(&body, 0, &mut types).unwrap().ja4()
    }

    fn list(values: &[u16]) -> Vec<u8> {
        let values: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        [&(values.len() as u16).to_be_bytes()[..], &values].concat()
    }

    /// The client of the example in the specification, with GREASE where Chrome sprinkles it.
    fn example(with_signature_algorithms: bool) -> String {
        let cipher_suites = [
            0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c,
            0x009d, 0x002f, 0x0035,
        ];
        let signature_algorithms = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601, 0x2a2a];
        let mut extensions = vec![
            extension(0x1a1a, b""),
            extension(0x001b, b"x"),
            server_name(b"a.example"),
            extension(0x0033, &[0, 0]),
            extension(0x0010, b"\0\x0c\x02h2\x08http/1.1"),
            extension(0x4469, b""),
            extension(0x0017, b""),
            extension(0x002d, b""),
        ];
        // Without the extension the list of extensions is another one: the specification's second example keeps it.
        extensions.push(if with_signature_algorithms {
            extension(0x000d, &list(&signature_algorithms))
        } else {
            extension(0x000d, &list(&[0x2a2a]))
        });
        extensions.extend([
            extension(0x0005, b""),
            extension(0x0023, b""),
            extension(0x0012, b""),
            extension(0x002b, &[6, 0x4a, 0x4a, 3, 4, 3, 3]),
            extension(0xff01, b"\0"),
            extension(0x000b, b""),
            extension(0x000a, &list(&[0x6a6a, 29])),
            extension(0x0015, b"\0"),
            extension(0xfafa, b"\0"),
        ]);
        ja4(&cipher_suites, &extensions)
    }

    #[test]
    fn the_example_of_the_specification() {
        assert_eq!(example(true), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn without_signature_algorithms_there_is_no_underscore() {
        assert_eq!(example(false), "t13d1516h2_8daaf6152771_6d807ffa2a79");
    }

    #[test]
    fn a_hello_with_nothing_in_it() {
        assert_eq!(ja4(&[0x0a0a], &[]), "t12i000000_000000000000_000000000000");
    }

    #[test]
    fn server_name_and_alpn_are_counted_but_not_hashed() {
        let extensions = [server_name(b"a.example"), extension(16, b"\0\x03\x02h2")];
        assert_eq!(&ja4(&[0x0a0a], &extensions), "t12d0002h2_000000000000_000000000000");
    }

    #[test]
    fn counts_end_at_99() {
        let cipher_suites: Vec<u16> = (0..100).collect();
        let extensions: Vec<_> = (100..300).map(|kind| extension(kind, b"")).collect();
        assert!(ja4(&cipher_suites, &extensions).starts_with("t12i999900_"));
    }

    #[test]
    fn a_version_of_supported_versions_counts_most() {
        for (versions, expected) in [
            (&[2, 3, 4][..], "13"),
            (&[4, 3, 1, 3, 2], "11"),
            (&[2, 3, 1], "10"),
            (&[2, 3, 0], "s3"),
            (&[4, 0x7f, 0x1c, 3, 4], "00"),
            (&[2, 0x1a, 0x1a], "00"),
        ] {
            let ja4 = ja4(&[1], &[extension(43, versions)]);
            assert_eq!(&ja4[1..3], expected, "{versions:?}");
        }
    }

    #[test]
    fn the_alpn_examples_of_the_specification() {
        for (protocol, expected) in [
            (&b"h2"[..], "h2"),
            (b"http/1.1", "h1"),
            (b"x", "xx"),
            (&[0xab], "ab"),
            (&[0x20], "20"),
            (&[0xab, 0xcd], "ad"),
            (&[0x20, 0x61], "21"),
            (&[0x30, 0xab], "3b"),
            (&[0x61, 0x20], "60"),
            (&[0x30, 0x31, 0xab, 0xcd], "3d"),
            (&[0x30, 0xab, 0xcd, 0x31], "01"),
        ] {
            assert_eq!(String::from_iter(alpn(Some(protocol))), expected);
        }
        assert_eq!(alpn(None), ['0', '0']);
    }
}
