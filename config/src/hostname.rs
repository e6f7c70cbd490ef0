//! Hostnames as they are configured and compared: lower case, no trailing dot, A-labels only.
//! Never resolves a name.

use std::fmt;

/// What a tenant claims: one name, or the names one label below a suffix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostnamePattern {
    /// Exactly this name.
    Exact(Hostname),
    /// `*.` and this suffix: exactly one label before it (RFC 9525 section 6.3).
    Wildcard(Hostname),
}

/// A DNS host name in its canonical form (RFC 1123 section 2.1, RFC 5890 A-labels).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname(String);

impl Hostname {
    /// The canonical text: lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostnamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{}", name.0),
            Self::Wildcard(suffix) => write!(f, "*.{}", suffix.0),
        }
    }
}
