//! Reproducible streams that cost no more than copying and comparing memory: both ends of a connection know every byte
//! of it by the stream's number.

use std::io::{self, Read, Write};
use std::sync::LazyLock;

/// One stream; two streams of different numbers differ from the first bytes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    start: usize,
}

impl Pattern {
    /// The stream of this number.
    pub fn new(number: u64) -> Self {
        Self { start: (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % LENGTH as u64) as usize }
    }

    /// Writes `bytes` bytes of it.
    pub fn send(self, stream: &mut impl Write, bytes: u64) -> io::Result<()> {
        let mut position = 0;
        while position < bytes {
            let piece = self.piece(position, bytes - position);
            stream.write_all(piece)?;
            position += piece.len() as u64;
        }
        Ok(())
    }

    /// Reads `bytes` bytes and compares them; an error names the first byte that differs.
    pub fn receive(self, stream: &mut impl Read, bytes: u64) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut position = 0;
        while position < bytes {
            let want = buffer.len().min(usize::try_from(bytes - position).unwrap_or(usize::MAX));
            let read = stream.read(&mut buffer[..want])?;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("ended at {position} of {bytes}")));
            }
            let mut compared = 0;
            while compared < read {
                let piece = self.piece(position, (read - compared) as u64);
                if piece != &buffer[compared..compared + piece.len()] {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("differs after byte {position}")));
                }
                compared += piece.len();
                position += piece.len() as u64;
            }
        }
        Ok(())
    }

    fn piece(self, position: u64, most: u64) -> &'static [u8] {
        let at = (self.start + (position % LENGTH as u64) as usize) % LENGTH;
        let length = CHUNK.min(LENGTH - at).min(usize::try_from(most).unwrap_or(usize::MAX));
        &BYTES[at..at + length]
    }
}

/// A prime, so that no shift by a power of two goes unnoticed.
const LENGTH: usize = 4_194_301;
const CHUNK: usize = 128 * 1024;

static BYTES: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    let mut state = 1_u64;
    (0..LENGTH)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_received_and_nothing_else() {
        let mut wire = Vec::new();
        Pattern::new(7).send(&mut wire, 5_000_000).unwrap();
        Pattern::new(7).receive(&mut wire.as_slice(), 5_000_000).unwrap();
        assert!(Pattern::new(8).receive(&mut wire.as_slice(), 5_000_000).is_err());
        assert!(Pattern::new(7).receive(&mut &wire[..100], 101).is_err());
        wire[4_500_000] ^= 1;
        assert!(Pattern::new(7).receive(&mut wire.as_slice(), 5_000_000).is_err());
    }
}
