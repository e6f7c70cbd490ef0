//! The name of one connection in every log line and hand-off message that speaks of it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Identifies a connection; written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// An id that this process has not given out before. Each process starts at a random number, so that ids of
    /// different router processes do not meet in one log.
    pub fn next() -> Self {
        static FIRST: OnceLock<u64> = OnceLock::new();
        static GIVEN_OUT: AtomicU64 = AtomicU64::new(0);
        let first = *FIRST.get_or_init(|| RandomState::new().hash_one(std::process::id()));
        Self(first.wrapping_add(GIVEN_OUT.fetch_add(1, Ordering::Relaxed)))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConnectionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        u64::from_str_radix(&digits, 16)
            .map(Self)
            .map_err(|_| D::Error::custom("a connection id is 16 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectionId;

    #[test]
    fn ids_differ_and_survive_json() {
        let (one, two) = (ConnectionId::next(), ConnectionId::next());
        assert_ne!(one, two);
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(json.len(), 18);
        assert_eq!(serde_json::from_str::<ConnectionId>(&json).unwrap(), one);
    }

    #[test]
    fn other_strings_are_refused() {
        assert!(serde_json::from_str::<ConnectionId>("\"xyz\"").is_err());
    }
}
