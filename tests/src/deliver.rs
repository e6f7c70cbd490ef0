//! The ways in which a first flight can arrive: the same handshake message in other segments or other records.

use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::hello::{HANDSHAKE_RECORD, records};

/// How a first flight is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In one write.
    Whole,
    /// In two halves, 50 ms apart.
    TwoSegments,
    /// One byte in each write.
    ByteByByte,
    /// In TLS records of 64 bytes.
    SmallRecords,
}

impl Delivery {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Whole, Self::TwoSegments, Self::ByteByByte, Self::SmallRecords];
}

/// Sends `flight`, which is whole handshake records; the stream must have TCP_NODELAY set.
pub fn deliver(mut stream: &TcpStream, flight: &[u8], how: Delivery) -> io::Result<()> {
    match how {
        Delivery::Whole => stream.write_all(flight),
        Delivery::TwoSegments => {
            let (first, second) = flight.split_at(flight.len() / 2);
            stream.write_all(first)?;
            thread::sleep(SEGMENT_PAUSE);
            stream.write_all(second)
        }
        Delivery::ByteByByte => flight.iter().try_for_each(|byte| stream.write_all(&[*byte])),
        Delivery::SmallRecords => stream.write_all(&records(&handshake_of(flight)?, SMALL_RECORD)),
    }
}

fn handshake_of(mut flight: &[u8]) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    while let Some((header, rest)) = flight.split_at_checked(RECORD_HEADER) {
        if header[0] != HANDSHAKE_RECORD {
            return Err(io::Error::other("the first flight has a record that is no handshake"));
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let (part, next) = rest.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        message.extend_from_slice(part);
        flight = next;
    }
    Ok(message)
}

const SEGMENT_PAUSE: Duration = Duration::from_millis(50);
const SMALL_RECORD: usize = 64;
/// RFC 8446 section 5.1: type, version, length.
const RECORD_HEADER: usize = 5;
