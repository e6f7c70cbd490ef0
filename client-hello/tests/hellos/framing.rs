//! Captured hellos in records of other sizes than their clients chose.

use client_hello::{ClientHello, ClientHelloParser, Parse};

use crate::captures::CAPTURES;

/// `message` in records of at most `record` bytes each.
pub(crate) fn in_records(message: &[u8], record: usize) -> Vec<u8> {
    message.chunks(record).flat_map(one_record).collect()
}

/// `message` in two records, the first one of `at` bytes.
pub(crate) fn in_two_records(message: &[u8], at: usize) -> Vec<u8> {
    let (first, second) = message.split_at(at);
    [one_record(first), one_record(second)].concat()
}

/// Asserts that `bytes` hold the same hello as `expected`, whatever their records.
pub(crate) fn assert_same_hello(parser: &mut ClientHelloParser, bytes: &[u8], expected: &ClientHello<'_>) {
    let Parse::ClientHello(mut hello) = parser.parse(bytes) else { panic!("the reframed hello is none") };
    assert_eq!(hello.record_bytes, bytes.len());
    hello.record_bytes = expected.record_bytes;
    assert_eq!(&hello, expected);
}

fn one_record(fragment: &[u8]) -> Vec<u8> {
    let length = u16::try_from(fragment.len()).unwrap().to_be_bytes();
    [&[0x16, 3, 1], &length[..], fragment].concat()
}

#[test]
fn every_split_over_two_records_gives_the_same_answer() {
    let (mut parser, mut reframed) = (ClientHelloParser::new(65_536), ClientHelloParser::new(65_536));
    for capture in &CAPTURES {
        let message = &capture.bytes[5..];
        let Parse::ClientHello(hello) = parser.parse(capture.bytes) else {
            panic!("{} is not a hello", capture.client)
        };
        for at in 1..message.len() {
            assert_same_hello(&mut reframed, &in_two_records(message, at), &hello);
        }
    }
}

#[test]
fn records_of_any_size_give_the_same_answer() {
    let (mut parser, mut reframed) = (ClientHelloParser::new(65_536), ClientHelloParser::new(65_536));
    for capture in &CAPTURES {
        let message = &capture.bytes[5..];
        let Parse::ClientHello(hello) = parser.parse(capture.bytes) else {
            panic!("{} is not a hello", capture.client)
        };
        for record in [1, 2, 3, 4, 5, 63, 64, 65, 512, 1_024] {
            assert_same_hello(&mut reframed, &in_records(message, record), &hello);
        }
    }
}

#[test]
fn every_record_version_gives_the_same_answer() {
    let (mut parser, mut other) = (ClientHelloParser::new(65_536), ClientHelloParser::new(65_536));
    for capture in &CAPTURES {
        for minor in [0, 1, 2, 3, 4, 0x7f] {
            let mut bytes = capture.bytes.to_vec();
            bytes[2] = minor;
            assert_eq!(parser.parse(capture.bytes), other.parse(&bytes));
        }
    }
}
