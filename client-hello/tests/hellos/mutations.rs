//! Thousands of damaged captures: whatever the answer is, it is one, and it is consistent.

use crate::captures::CAPTURES;
use crate::framing::in_records;
use crate::invariants;

#[test]
fn damaged_hellos_never_panic_and_their_answers_are_consistent() {
    let mut random = Random(0x5eed);
    for round in 0..3_000 {
        let capture = &CAPTURES[round % CAPTURES.len()];
        let mut bytes = match random.below(3) {
            0 => in_records(&capture.bytes[5..], 1 + random.below(200)),
            _ => capture.bytes.to_vec(),
        };
        for _ in 0..=random.below(4) {
            damage(&mut bytes, &mut random);
        }
        invariants::hold(&bytes);
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let length = bytes.len();
    let at = random.below(length);
    let value = random.below(256) as u8;
    match random.below(6) {
        0 => bytes[at] = value,
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes.insert(at, value),
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..length.min(at + 8))),
        // The header fields, which other places seldom hit.
        _ => bytes[at % 64] = value,
    }
    // Room for the next damage.
    bytes.resize(bytes.len().max(64), 0);
}

/// xorshift64*: the same cases on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        high as usize % bound
    }
}
