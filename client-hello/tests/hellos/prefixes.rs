//! Captured hellos that have not all come, and what may stand behind them.

use client_hello::{ClientHelloParser, Parse};

use crate::captures::CAPTURES;
use crate::framing::in_records;

#[test]
fn every_prefix_is_incomplete_with_a_sound_bound() {
    let mut parser = ClientHelloParser::new(65_536);
    for capture in &CAPTURES {
        for length in 0..capture.bytes.len() {
            let Parse::Incomplete { needed } = parser.parse(&capture.bytes[..length]) else {
                panic!("{length} bytes of {} are an answer", capture.client)
            };
            assert!(needed > length && needed <= capture.bytes.len());
        }
    }
}

#[test]
fn every_prefix_of_one_byte_records_is_incomplete_with_a_sound_bound() {
    let mut parser = ClientHelloParser::new(65_536);
    for capture in &CAPTURES {
        let bytes = in_records(&capture.bytes[5..], 1);
        for length in (0..bytes.len()).step_by(7) {
            let Parse::Incomplete { needed } = parser.parse(&bytes[..length]) else {
                panic!("{length} bytes of {} are an answer", capture.client)
            };
            assert!(needed > length && needed <= bytes.len());
        }
    }
}

#[test]
fn waiting_for_what_is_needed_takes_few_rounds() {
    for (record, most_rounds) in [(1 << 14, 4), (64, 6), (1, 45)] {
        for capture in &CAPTURES {
            let bytes = in_records(&capture.bytes[5..], record);
            let mut parser = ClientHelloParser::new(65_536);
            let mut length = 0;
            let mut rounds = 0;
            while let Parse::Incomplete { needed } = parser.parse(&bytes[..length]) {
                length = needed;
                rounds += 1;
            }
            assert_eq!(length, bytes.len());
            assert!(rounds <= most_rounds, "{rounds} rounds for {}", capture.client);
        }
    }
}

#[test]
fn bytes_behind_the_hello_change_nothing() {
    let early_data: &[u8] = &[0x17, 3, 3, 0, 2, 1, 2];
    let change_cipher_spec: &[u8] = &[0x14, 3, 3, 0, 1, 1];
    let part_of_a_record: &[u8] = &[0x16];
    let noise: &[u8] = &[0xff; 70_000];
    let (mut parser, mut other) = (ClientHelloParser::new(4_096), ClientHelloParser::new(4_096));
    for capture in &CAPTURES {
        for behind in [early_data, change_cipher_spec, part_of_a_record, noise] {
            let longer = [capture.bytes, behind].concat();
            assert_eq!(parser.parse(capture.bytes), other.parse(&longer));
        }
    }
}
