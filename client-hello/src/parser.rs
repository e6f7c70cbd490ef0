//! The entry: all bytes of a connection so far in, one answer out.
//! Each answer but `Incomplete` is final: bytes that follow never change it.

use crate::hello::ClientHello;
use crate::malformed::Malformed;
use crate::not_tls::{FirstBytes, NotTls};
use crate::records::{self, Stop};

/// Parses ClientHellos one after another, of any number of connections, with one pair of reused buffers.
///
/// Nothing but the capacity of the buffers lives on between two calls, so one parser per worker thread is enough.
#[derive(Debug)]
pub struct ClientHelloParser {
    max_bytes: usize,
    /// Holds the handshake message when more than one record carries it. Filled only with bytes that have arrived
    /// and that fit into `max_bytes`, whatever the headers announce.
    message: Vec<u8>,
    /// The extension types of the hello, sorted: they find duplicates and feed JA4.
    extension_types: Vec<u16>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parse<'a> {
    /// A whole, well-formed ClientHello.
    ClientHello(ClientHello<'a>),
    /// Still a possible ClientHello.
    Incomplete {
        /// A lower bound of the bytes, counted from the first one of the connection, that any ClientHello with this
        /// beginning has: asking again with fewer is in vain. Always more than were given, and as the bound is never
        /// too high it is safe as SO_RCVLOWAT. As long as it is open whether this is TLS, it is one more byte.
        needed: usize,
    },
    /// Not a TLS handshake.
    NotTls(NotTls),
    /// A TLS handshake that breaks the protocol.
    Malformed(Malformed),
    /// The headers announce a hello whose records are longer than `max_bytes`.
    TooLarge,
}

impl ClientHelloParser {
    /// A parser that refuses hellos whose records, headers included, are longer than `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, message: Vec::new(), extension_types: Vec::new() }
    }

    /// Judges `bytes`: everything that the connection has brought so far, from its first byte on.
    ///
    /// What follows behind the records of the hello (early data, other records) is not looked at.
    pub fn parse<'a>(&'a mut self, bytes: &'a [u8]) -> Parse<'a> {
        match FirstBytes::of(bytes) {
            FirstBytes::HandshakeRecord => {}
            FirstBytes::NotTls(kind) => return Parse::NotTls(kind),
            FirstBytes::Undecided => {
                return Parse::Incomplete { needed: bytes.len() + 1 };
            }
        }
        let location = match records::locate_hello(bytes, self.max_bytes) {
            Ok(location) => location,
            Err(Stop::Incomplete { needed }) => return Parse::Incomplete { needed },
            Err(Stop::Malformed(why)) => return Parse::Malformed(why),
            Err(Stop::TooLarge) => return Parse::TooLarge,
        };
        let message = location.message(bytes, &mut self.message);
        match ClientHello::read(message, location.record_bytes, &mut self.extension_types) {
            Ok(hello) => Parse::ClientHello(hello),
            Err(why) => Parse::Malformed(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{client_hello, in_records, server_name};

    #[test]
    fn one_record_is_borrowed_without_copying() {
        let bytes = in_records(&client_hello(&[server_name(b"a.example")]), 1 << 14);
        let mut parser = ClientHelloParser::new(65_536);
        let Parse::ClientHello(hello) = parser.parse(&bytes) else { panic!("not a hello") };
        let name = hello.server_name.unwrap().as_ptr();
        assert!(bytes.as_ptr_range().contains(&name));
        assert_eq!(parser.message.capacity(), 0);
    }

    #[test]
    fn hostile_lengths_allocate_nothing() {
        let mut parser = ClientHelloParser::new(65_536);
        // One full record of a message that announces 65,000 bytes, and 16 MB: only headers are believed.
        for length in [[0x00, 0xfd, 0xe8], [0xff, 0xff, 0xff]] {
            let mut bytes = vec![0x16, 3, 1, 0x40, 0x00, 1, length[0], length[1], length[2]];
            bytes.resize(5 + (1 << 14), 0);
            assert!(!matches!(parser.parse(&bytes), Parse::ClientHello(_)));
            assert_eq!(parser.message.capacity(), 0);
            assert_eq!(parser.extension_types.capacity(), 0);
        }
    }

    #[test]
    fn the_buffer_stays_within_max_bytes_and_is_reused() {
        let message = client_hello(&[server_name(b"a.example")]);
        let bytes = in_records(&message, 1);
        let mut parser = ClientHelloParser::new(bytes.len());
        assert!(matches!(parser.parse(&bytes), Parse::ClientHello(_)));
        let capacity = parser.message.capacity();
        assert!(capacity >= message.len() && capacity <= bytes.len());
        assert!(matches!(parser.parse(&bytes), Parse::ClientHello(_)));
        assert_eq!(parser.message.capacity(), capacity);
    }

    #[test]
    fn a_hello_of_max_bytes_passes_and_one_more_is_too_large() {
        let bytes = in_records(&client_hello(&[server_name(b"a.example")]), 20);
        let exact = ClientHelloParser::new(bytes.len()).parse(&bytes) == Parse::TooLarge;
        assert!(!exact);
        let mut parser = ClientHelloParser::new(bytes.len() - 1);
        assert_eq!(parser.parse(&bytes), Parse::TooLarge);
    }

    #[test]
    fn too_large_is_answered_from_the_headers() {
        let mut parser = ClientHelloParser::new(512);
        // The record alone is too long.
        assert_eq!(parser.parse(&[0x16, 3, 1, 2, 0]), Parse::TooLarge);
        // The record is not, the message in it is.
        assert_eq!(parser.parse(&[0x16, 3, 1, 0, 100, 1, 0, 2, 0]), Parse::TooLarge);
    }

    #[test]
    fn nothing_at_all_needs_one_byte() {
        assert_eq!(ClientHelloParser::new(512).parse(&[]), Parse::Incomplete { needed: 1 });
    }
}
