//! Durations in the syntax of the Gateway API (GEP-2257): `5s`, `10m`, `250ms`, `1h30m`.

use std::fmt;
use std::time::Duration;

use crate::text::FromText;
use crate::yaml::quoted;

/// A duration of the file, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(u64);

impl Span {
    pub(crate) const fn millis(count: u64) -> Self {
        Self(count)
    }

    pub(crate) const fn seconds(count: u64) -> Self {
        Self(count * 1000)
    }

    pub(crate) const fn minutes(count: u64) -> Self {
        Self::seconds(count * 60)
    }

    pub(crate) const fn hours(count: u64) -> Self {
        Self::minutes(count * 60)
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromText for Span {
    const NAME: &'static str = "Duration";
    const DESCRIPTION: &'static str =
        "A duration: whole numbers with the units h, m, s and ms, such as 5s, 250ms or 1h30m (Gateway API, GEP-2257).";
    const PATTERN: &'static str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
    const EXPECTED: &'static str = "a duration with a unit, such as 5s, 10m or 250ms";

    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {}, found {}", Self::EXPECTED, quoted(text));
        let mut rest = text;
        let mut total = 0_u64;
        for _ in 0..MAX_PARTS {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits > MAX_DIGITS {
                return Err(wrong());
            }
            let (number, unit_and_rest) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let (millis, after) = UNITS
                .iter()
                .find_map(|(unit, millis)| Some((millis, unit_and_rest.strip_prefix(unit)?)))
                .ok_or_else(wrong)?;
            total += number * millis;
            rest = after;
            if rest.is_empty() {
                return Ok(Self(total));
            }
        }
        Err(wrong())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, millis) in UNITS_DOWN {
            if rest >= millis {
                write!(f, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

/// Units and their milliseconds; `ms` before `m`, whose name it begins with.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
/// The same from the largest to the smallest.
const UNITS_DOWN: [(&str, u64); 4] = [UNITS[1], UNITS[2], UNITS[3], UNITS[0]];
/// GEP-2257: at most four parts.
const MAX_PARTS: usize = 4;
/// GEP-2257: at most five digits each, so that no sum overflows.
const MAX_DIGITS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, span) in [
            ("5s", Span::seconds(5)),
            ("10m", Span::minutes(10)),
            ("250ms", Span::millis(250)),
            ("1h", Span::hours(1)),
            ("1h30m", Span::minutes(90)),
            ("1m1ms", Span::millis(60_001)),
            ("0s", Span::millis(0)),
        ] {
            assert_eq!(Span::from_text(text), Ok(span));
            assert_eq!(span.to_string(), text);
        }
        assert_eq!(Span::from_text("90m").unwrap().to_string(), "1h30m");
    }

    #[test]
    fn other_texts_are_no_durations() {
        for text in ["", "5", "s", "5 s", "-5s", "5d", "1.5s", "5S", "100000s", "1s1s1s1s1s", "5s ", "٥s", "1h30"] {
            assert!(Span::from_text(text).is_err(), "{text:?}");
        }
    }
}
