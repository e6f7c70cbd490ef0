//! Amounts of memory, as they are written: `128MiB`, `1GiB`.

use crate::text::FromText;
use crate::yaml::quoted;

/// An amount of the file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

impl FromText for ByteSize {
    const NAME: &'static str = "ByteSize";
    const DESCRIPTION: &'static str =
        "An amount of memory: a whole number and one of KiB, MiB and GiB, such as 128MiB.";
    const PATTERN: &'static str = "^[1-9][0-9]{0,9}(KiB|MiB|GiB)$";
    const EXPECTED: &'static str = "an amount with a unit, such as 128MiB or 1GiB";

    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {}, found {}", Self::EXPECTED, quoted(text));
        let (number, unit) =
            UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes))).ok_or_else(wrong)?;
        // Digits only: the standard parser lets a sign through.
        if number.is_empty() || number.len() > MAX_DIGITS || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = number.parse().map_err(|_| wrong())?;
        Ok(Self(number * unit))
    }
}

const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
/// So that no product overflows.
const MAX_DIGITS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read() {
        for (text, bytes) in [("1KiB", 1024), ("128MiB", 134_217_728), ("2GiB", 2_147_483_648)] {
            assert_eq!(ByteSize::from_text(text), Ok(ByteSize(bytes)));
        }
        for text in ["", "128", "MiB", "128MB", "128 MiB", "+1MiB", "-1MiB", "1.5GiB", "12345678901GiB", "128mib"] {
            assert!(ByteSize::from_text(text).unwrap_err().contains("such as 128MiB"), "{text:?}");
        }
    }
}
