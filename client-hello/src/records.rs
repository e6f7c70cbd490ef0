//! The record layer (RFC 8446 5.1) up to the end of the ClientHello: where the handshake message lies in the bytes,
//! or how many more it takes at least. Never looks into the message behind its header.
//!
//! The walk goes from header to header, and each decision is made at the byte that settles it, so that more bytes
//! never change it.

use crate::malformed::Malformed;
use crate::not_tls::{HANDSHAKE, TLS_MAJOR};

/// Where a whole ClientHello lies.
#[derive(Debug)]
pub(crate) struct HelloLocation {
    /// Bytes of all records that carry it, headers included.
    pub(crate) record_bytes: usize,
    message_bytes: usize,
}

/// Why there is no whole ClientHello.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Incomplete { needed: usize },
    Malformed(Malformed),
    TooLarge,
}

/// Finds the handshake message at the beginning of `bytes`, whose first two bytes are those of a handshake record.
pub(crate) fn locate_hello(bytes: &[u8], max_bytes: usize) -> Result<HelloLocation, Stop> {
    let mut walk = Walk::default();
    let mut rest = bytes;
    loop {
        let Some(length) = record_length(rest)? else {
            return Err(walk.incomplete(0));
        };
        let fragment = &rest[RECORD_HEADER..];
        walk.bytes += RECORD_HEADER;
        walk.enter_record(length, fragment, max_bytes)?;
        let Some(behind) = fragment.get(length..) else {
            return Err(walk.incomplete(length));
        };
        walk.bytes += length;
        walk.message_bytes += length;
        if walk.message_bytes == walk.expected() {
            return Ok(HelloLocation { record_bytes: walk.bytes, message_bytes: walk.message_bytes });
        }
        rest = behind;
    }
}

impl HelloLocation {
    /// The handshake message without its header: from `bytes` itself when one record carries it, else put together
    /// in `buffer`.
    pub(crate) fn message<'a>(&self, bytes: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
        let records = &bytes[..self.record_bytes];
        let message = if self.record_bytes == RECORD_HEADER + self.message_bytes {
            &records[RECORD_HEADER..]
        } else {
            buffer.clear();
            buffer.reserve_exact(self.message_bytes);
            for fragment in fragments(records) {
                buffer.extend_from_slice(fragment);
            }
            buffer
        };
        &message[HANDSHAKE_HEADER..]
    }
}

/// How far the walk has come.
#[derive(Default)]
struct Walk {
    /// Bytes of the connection behind it: headers, and records that are whole.
    bytes: usize,
    /// Bytes of the handshake message in those records.
    message_bytes: usize,
    header: [u8; HANDSHAKE_HEADER],
    /// How many bytes of `header` are known.
    header_bytes: usize,
}

impl Walk {
    /// Takes note of a record of `length` bytes, `fragment` being what has arrived of it (and behind it).
    fn enter_record(&mut self, length: usize, fragment: &[u8], max_bytes: usize) -> Result<(), Stop> {
        self.check_lengths(length, max_bytes)?;
        if self.header_bytes < HANDSHAKE_HEADER {
            for &byte in fragment.iter().take(length).take(HANDSHAKE_HEADER - self.header_bytes) {
                self.header[self.header_bytes] = byte;
                self.header_bytes += 1;
            }
            if self.header_bytes > 0 && self.header[0] != CLIENT_HELLO {
                return Err(Stop::Malformed(Malformed::NotClientHello(self.header[0])));
            }
            self.check_lengths(length, max_bytes)?;
        }
        Ok(())
    }

    /// Checks what is known of the lengths after a header: of a record with `length` bytes to come, or of the message.
    fn check_lengths(&self, length: usize, max_bytes: usize) -> Result<(), Stop> {
        if self.header_bytes == HANDSHAKE_HEADER {
            if self.expected() < HANDSHAKE_HEADER + SHORTEST_HELLO {
                return Err(Stop::Malformed(Malformed::TooShort));
            }
            if length > self.expected() - self.message_bytes {
                return Err(Stop::Malformed(Malformed::NotOnRecordBoundary));
            }
        }
        if self.lower_bound(length) > max_bytes {
            return Err(Stop::TooLarge);
        }
        Ok(())
    }

    /// The length of the message with its header, or of the header alone while the length is not known.
    fn expected(&self) -> usize {
        match self.header {
            [_, high, middle, low] if self.header_bytes == HANDSHAKE_HEADER => {
                HANDSHAKE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize
            }
            _ => HANDSHAKE_HEADER,
        }
    }

    /// The fewest bytes that the connection can have when the hello is whole, `length` of them being the record that
    /// begins here: all of that record, as the hello must end with one, and the rest in records of full size.
    fn lower_bound(&self, length: usize) -> usize {
        let missing = self.expected().saturating_sub(self.message_bytes).saturating_sub(length);
        self.bytes + length + missing + missing.div_ceil(LONGEST_RECORD) * RECORD_HEADER
    }

    fn incomplete(&self, length: usize) -> Stop {
        Stop::Incomplete { needed: self.lower_bound(length) }
    }
}

/// Reads the header of a handshake record: its length, or `None` while that has not arrived.
fn record_length(record: &[u8]) -> Result<Option<usize>, Stop> {
    match *record {
        [content_type, ..] if content_type != HANDSHAKE => {
            Err(Stop::Malformed(Malformed::InterleavedRecord(content_type)))
        }
        [_, major, ..] if major != TLS_MAJOR => Err(Stop::Malformed(Malformed::RecordVersion(major))),
        [_, _, _, high, low, ..] => match usize::from(u16::from_be_bytes([high, low])) {
            0 => Err(Stop::Malformed(Malformed::EmptyRecord)),
            length if length > LONGEST_RECORD => Err(Stop::Malformed(Malformed::RecordTooLong)),
            length => Ok(Some(length)),
        },
        _ => Ok(None),
    }
}

/// The contents of whole records.
fn fragments(mut records: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let ([_, _, _, high, low], rest) = records.split_first_chunk()?;
        let length = u16::from_be_bytes([*high, *low]);
        let (fragment, behind) = rest.split_at_checked(usize::from(length))?;
        records = behind;
        Some(fragment)
    })
}

/// TLSPlaintext (RFC 8446 5.1): type, legacy_record_version, length.
const RECORD_HEADER: usize = 5;
/// "The length MUST NOT exceed 2^14 bytes" (RFC 8446 5.1).
const LONGEST_RECORD: usize = 1 << 14;
/// Handshake (RFC 8446 4): msg_type and a length of 24 bits.
const HANDSHAKE_HEADER: usize = 4;
/// HandshakeType client_hello (RFC 8446 4).
const CLIENT_HELLO: u8 = tls_parser::TlsHandshakeType::ClientHello.0;
/// legacy_version, random, an empty legacy_session_id, one cipher suite, one compression method and no extensions
/// (RFC 5246 7.4.1.2).
const SHORTEST_HELLO: usize = 2 + 32 + 1 + (2 + 2) + (1 + 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{client_hello, in_records, server_name};

    const MAX: usize = 65_536;

    fn message() -> Vec<u8> {
        client_hello(&[server_name(b"a.example")])
    }

    fn malformed(bytes: &[u8], why: Malformed) {
        assert_eq!(locate_hello(bytes, MAX).unwrap_err(), Stop::Malformed(why.clone()));
        let longer = [bytes, &[0xff; 64]].concat();
        assert_eq!(locate_hello(&longer, MAX).unwrap_err(), Stop::Malformed(why));
        let shorter = locate_hello(&bytes[..bytes.len() - 1], MAX).unwrap_err();
        assert!(matches!(shorter, Stop::Incomplete { .. }), "answered late: {shorter:?}");
    }

    fn needed(bytes: &[u8]) -> usize {
        match locate_hello(bytes, MAX).unwrap_err() {
            Stop::Incomplete { needed } => needed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_zero_length_record_is_malformed() {
        malformed(&[0x16, 3, 1, 0, 0], Malformed::EmptyRecord);
        malformed(&[0x16, 3, 1, 0, 1, 1, 0x16, 3, 3, 0, 0], Malformed::EmptyRecord);
    }

    #[test]
    fn a_record_over_16_kib_is_malformed() {
        malformed(&[0x16, 3, 1, 0x40, 1], Malformed::RecordTooLong);
        assert_eq!(needed(&[0x16, 3, 1, 0x40, 0]), 5 + 0x4000);
    }

    #[test]
    fn another_record_inside_the_hello_is_malformed_at_its_first_byte() {
        malformed(&[0x16, 3, 1, 0, 1, 1, 0x15], Malformed::InterleavedRecord(0x15));
    }

    #[test]
    fn a_later_record_of_another_major_version_is_malformed() {
        malformed(&[0x16, 3, 1, 0, 1, 1, 0x16, 2], Malformed::RecordVersion(2));
    }

    #[test]
    fn another_handshake_message_is_malformed_at_its_first_byte() {
        malformed(&[0x16, 3, 1, 0, 100, 2], Malformed::NotClientHello(2));
    }

    #[test]
    fn a_hello_that_is_too_short_is_malformed_at_its_length() {
        malformed(&[0x16, 3, 1, 0, 44, 1, 0, 0, 40], Malformed::TooShort);
    }

    #[test]
    fn a_message_behind_the_hello_in_its_record_is_malformed_at_the_headers() {
        malformed(&[0x16, 3, 1, 0, 46, 1, 0, 0, 41], Malformed::NotOnRecordBoundary);
        let mut split = vec![0x16, 3, 1, 0, 44, 1, 0, 0, 41];
        split.resize(5 + 44, 0);
        split.extend([0x16, 3, 1, 0, 2]);
        malformed(&split, Malformed::NotOnRecordBoundary);
    }

    #[test]
    fn the_record_of_the_first_header_is_asked_for_as_a_whole() {
        assert_eq!(needed(&[0x16, 3]), 9);
        assert_eq!(needed(&[0x16, 3, 1, 2, 0]), 517);
        assert_eq!(needed(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]), 517);
    }

    #[test]
    fn the_records_that_must_follow_are_counted_with_their_headers() {
        // 16,384 of 16,484 bytes: one more record. 32,868 of them: two more.
        assert_eq!(needed(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x40, 0x60]), 5 + 16_384 + 5 + 100);
        assert_eq!(needed(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x80, 0x60]), 5 + 16_384 + 5 + 16_384 + 5 + 100);
    }

    #[test]
    fn asking_for_what_is_needed_gets_there_in_few_steps() {
        for (record, most_steps) in [(1, 40), (64, 5), (1 << 14, 3)] {
            let mut message = message();
            message.resize(4 + 2_000, 0);
            message[1..4].copy_from_slice(&[0, 0x07, 0xd0]);
            let bytes = in_records(&message, record);
            let mut asked = 2;
            let mut steps = 0;
            let location = loop {
                match locate_hello(&bytes[..asked], MAX) {
                    Ok(location) => break location,
                    Err(Stop::Incomplete { needed }) => {
                        assert!(needed > asked && needed <= bytes.len());
                        asked = needed;
                        steps += 1;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            };
            assert_eq!(location.record_bytes, bytes.len());
            assert!(steps <= most_steps, "{steps} steps of {record} bytes");
        }
    }

    #[test]
    fn the_message_is_put_together_from_records_of_any_size() {
        let message = message();
        for record in 1..=message.len() {
            let bytes = in_records(&message, record);
            let mut buffer = Vec::new();
            let location = locate_hello(&bytes, MAX).unwrap();
            assert_eq!(location.message(&bytes, &mut buffer), &message[4..]);
        }
    }
}
