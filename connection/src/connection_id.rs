//! The name of one connection in every log line and hand-off message that speaks of it.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Identifies a connection; written as 16 hexadecimal digits. Whoever accepts connections numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

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
    fn an_id_survives_json() {
        let id = ConnectionId(255);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"00000000000000ff\"");
        assert_eq!(serde_json::from_str::<ConnectionId>(&json).unwrap(), id);
    }

    #[test]
    fn other_strings_are_refused() {
        assert!(serde_json::from_str::<ConnectionId>("\"xyz\"").is_err());
    }
}
