//! Reproducible bytes in any amount, and their hash, so that both ends of a connection can compare what went through.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use crate::authority::hex;

/// What one end sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digested {
    /// How many bytes.
    pub bytes: u64,
    /// Their SHA-256, lower-case hex.
    pub sha256: String,
}

/// Sends the rest of `prefix`, of which `already_sent` bytes are on their way, and then `bytes` pseudo-random bytes of
/// `seed`; returns the digest of all of it.
pub fn send(
    stream: &mut impl Write,
    prefix: &[u8],
    already_sent: usize,
    seed: u64,
    bytes: u64,
) -> io::Result<Digested> {
    let mut hash = Sha256::new();
    hash.update(prefix);
    stream.write_all(&prefix[already_sent..])?;
    let mut state = seed;
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        for word in chunk.chunks_exact_mut(8) {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            word.copy_from_slice(&(state ^ (state >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB).to_le_bytes());
        }
        let part = &chunk[..CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
        hash.update(part);
        stream.write_all(part)?;
        left -= part.len() as u64;
    }
    Ok(Digested { bytes: prefix.len() as u64 + bytes, sha256: hex(&hash.finalize()) })
}

/// Reads to the end of the stream.
pub fn receive(stream: &mut impl Read) -> io::Result<Digested> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(Digested { bytes, sha256: hex(&hash.finalize()) });
        }
        hash.update(&chunk[..read]);
        bytes += read as u64;
    }
}

const CHUNK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_received_has_the_hash_of_what_was_sent() {
        let mut wire = Vec::new();
        let sent = send(&mut wire, b"hello", 0, 7, 200_000).unwrap();
        assert_eq!(sent, receive(&mut wire.as_slice()).unwrap());
        assert_eq!(sent.bytes, 200_005);
    }

    #[test]
    fn another_seed_gives_other_bytes() {
        let hash = |seed| send(&mut io::sink(), b"", 0, seed, 100).unwrap().sha256;
        assert_ne!(hash(1), hash(2));
    }
}
