//! What holds for the answers to any bytes at all. The fuzz target checks these too.

use client_hello::{ClientHelloParser, Parse};

/// Panics if the parser does, or if its answers to `bytes`, to their beginnings and to their content in other records
/// contradict each other.
pub(crate) fn hold(bytes: &[u8]) {
    for max_bytes in [65_536, 600] {
        let mut parser = ClientHelloParser::new(max_bytes);
        let answer = parser.parse(bytes);
        beginnings_agree(bytes, &answer, max_bytes);
        if let Parse::ClientHello(hello) = &answer {
            let _ = hello.ja4();
            let message = message(&bytes[..hello.record_bytes]);
            records_do_not_matter(&message, &answer);
        }
    }
}

/// An answer is final, and a bound neither stands still nor lies behind the end of the hello.
fn beginnings_agree(bytes: &[u8], answer: &Parse<'_>, max_bytes: usize) {
    let mut parser = ClientHelloParser::new(max_bytes);
    // All beginnings of short inputs, and those around all header fields of the first records; else some.
    let step = bytes.len() / 64 + 1;
    for length in (0..bytes.len().min(32)).chain((0..bytes.len()).step_by(step)) {
        match (parser.parse(&bytes[..length]), answer) {
            (Parse::Incomplete { needed }, Parse::ClientHello(hello)) => {
                assert!(length < needed && needed <= hello.record_bytes);
            }
            (Parse::Incomplete { needed }, Parse::Incomplete { needed: later }) => {
                assert!(length < needed && needed <= *later);
            }
            (Parse::Incomplete { needed }, _) => assert!(length < needed),
            (early, late) => assert_eq!(early, *late, "{length} bytes"),
        }
    }
    if let Parse::Incomplete { needed } = *answer {
        assert!(bytes.len() < needed && needed <= max_bytes);
    }
}

/// The same message in two records, wherever they meet, or in small ones, is the same hello.
fn records_do_not_matter(message: &[u8], answer: &Parse<'_>) {
    let Parse::ClientHello(expected) = answer else {
        return;
    };
    let mut parser = ClientHelloParser::new(usize::MAX);
    let middle = message.len() / 2;
    for first in [1, 3, 4, 5, 40, middle, message.len() - 1] {
        for rest in [message.len(), 1] {
            let (head, tail) = message.split_at(first);
            let records: Vec<u8> = [head]
                .into_iter()
                .chain(tail.chunks(rest))
                .flat_map(|part| part.chunks(1 << 14))
                .flat_map(record)
                .collect();
            let Parse::ClientHello(mut hello) = parser.parse(&records) else {
                panic!("{first} bytes in the first record, then {rest}: no hello");
            };
            assert_eq!(hello.record_bytes, records.len());
            hello.record_bytes = expected.record_bytes;
            assert_eq!(&hello, expected);
        }
    }
}

/// The handshake message in `records`.
fn message(mut records: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = records {
        let (fragment, behind) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend_from_slice(fragment);
        records = behind;
    }
    message
}

fn record(fragment: &[u8]) -> Vec<u8> {
    let length = (fragment.len() as u16).to_be_bytes();
    [&[0x16, 3, 3], &length[..], fragment].concat()
}
