//! Hostnames as they are configured and compared: lower case, no trailing dot, A-labels only.
//! Never resolves a name.

use std::borrow::Borrow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What a tenant claims: one name, or the names one label below a suffix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostnamePattern {
    /// Exactly this name.
    Exact(Hostname),
    /// `*.` and this suffix: exactly one label before it (RFC 9525 section 6.3).
    Wildcard(Hostname),
}

impl HostnamePattern {
    /// Reads a name, or a wildcard in the place of the first label.
    pub fn parse(text: &str) -> Result<Self, HostnameError> {
        match text.strip_prefix("*.") {
            Some(suffix) if suffix.strip_suffix('.').unwrap_or(suffix).len() > MAX_NAME_BYTES - "*.".len() => {
                Err(HostnameError::NameTooLong)
            }
            Some(suffix) => Hostname::parse(suffix).map(Self::Wildcard),
            None => Hostname::parse(text).map(Self::Exact),
        }
    }
}

impl fmt::Display for HostnamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// A DNS host name in its canonical form (RFC 1123 section 2.1, RFC 5890 A-labels).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname(String);

impl Hostname {
    /// Reads a name in any case, with or without a trailing dot.
    pub fn parse(text: &str) -> Result<Self, HostnameError> {
        let mut buffer = [0; BUFFER_BYTES];
        normalize_into(text, &mut buffer).map(|name| Self(name.to_owned()))
    }

    /// The canonical text: lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Maps keyed by names can be asked with the text that [`normalize_into`] gives.
impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The canonical form of a name without allocation: what [`Hostname::parse`] would hold, by the same rules.
pub fn normalize_into<'b>(text: &str, buffer: &'b mut [u8; BUFFER_BYTES]) -> Result<&'b str, HostnameError> {
    if !text.is_ascii() {
        return Err(HostnameError::NotAscii);
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(HostnameError::Empty);
    }
    if name.starts_with('[') || name.parse::<Ipv6Addr>().is_ok() || name.parse::<Ipv4Addr>().is_ok() {
        return Err(HostnameError::IpLiteral);
    }
    if let Some((host, port)) = name.rsplit_once(':')
        && !host.contains(['/', ':'])
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(HostnameError::Port);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(HostnameError::NameTooLong);
    }
    for label in name.split('.') {
        check_label(label)?;
    }
    // RFC 3696 section 2: a top label is never all digits, so that names and addresses stay apart.
    if name.rsplit('.').next().is_some_and(|top| top.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(HostnameError::IpLiteral);
    }
    let canonical = &mut buffer[..name.len()];
    canonical.copy_from_slice(name.as_bytes());
    canonical.make_ascii_lowercase();
    std::str::from_utf8(canonical).map_err(|_| HostnameError::NotAscii)
}

/// What a host name must not be; the text says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// Nothing, or a single dot.
    #[error("is empty: write a name such as `www.example.com`")]
    Empty,
    /// A U-label, or something else outside of ASCII.
    #[error("is not ASCII: write its A-label form, as in `xn--bcher-kva.example` for `bücher.example`")]
    NotAscii,
    /// RFC 6066 section 3: literal addresses are not permitted in a server name.
    #[error("is an IP address, and server names never are: write a DNS name")]
    IpLiteral,
    /// A colon and digits at the end.
    #[error("has a port: write the name alone, ports belong to listeners")]
    Port,
    /// More than 253 bytes (RFC 1035 section 2.3.4, less the length bytes at both ends).
    #[error("is too long: a name has at most 253 characters")]
    NameTooLong,
    /// A label of more than 63 bytes (RFC 1035 section 2.3.4).
    #[error("has a label of more than 63 characters")]
    LabelTooLong,
    /// Two dots in a row, or one at the beginning.
    #[error("has an empty label: remove the extra dot")]
    EmptyLabel,
    /// A wildcard anywhere but as the whole first label.
    #[error("has `*` in a wrong place: it can only be the whole first label, as in `*.example.com`")]
    Wildcard,
    /// RFC 1123 section 2.1.
    #[error("has a label that begins or ends with `-`")]
    Hyphen,
    /// Something else than letters, digits, `-` and `_`.
    #[error("has the character {0:?}: a name consists of letters, digits, `-`, `_` and `.`")]
    Character(char),
}

fn check_label(label: &str) -> Result<(), HostnameError> {
    if label.is_empty() {
        return Err(HostnameError::EmptyLabel);
    }
    for byte in label.bytes() {
        match byte {
            // The underscore is no part of host names, but browsers and resolvers let it through.
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'*' => return Err(HostnameError::Wildcard),
            other => return Err(HostnameError::Character(char::from(other))),
        }
    }
    if label.len() > MAX_LABEL_BYTES {
        return Err(HostnameError::LabelTooLong);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(HostnameError::Hyphen);
    }
    Ok(())
}

/// RFC 1035 section 2.3.4: 255 bytes on the wire, less the first length byte and the root's.
const MAX_NAME_BYTES: usize = 253;
/// RFC 1035 section 2.3.4.
const MAX_LABEL_BYTES: usize = 63;
/// Room for the longest name.
const BUFFER_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_canonical() {
        for (text, canonical) in [
            ("API.Acme.Example.", "api.acme.example"),
            ("*.Acme.Example", "*.acme.example"),
            ("_dmarc.example", "_dmarc.example"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.4.example", "1.2.3.4.example"),
        ] {
            assert_eq!(HostnamePattern::parse(text).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn wrong_names_say_why() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}example", "a.".repeat(124));
        let long_wildcard = format!("*.{}", ["a".repeat(63).as_str(); 4].join("."))[..255].to_owned();
        for (text, error) in [
            ("", HostnameError::Empty),
            (".", HostnameError::Empty),
            ("*.", HostnameError::Empty),
            ("bücher.example", HostnameError::NotAscii),
            ("10.0.0.1", HostnameError::IpLiteral),
            ("10.0.0.1.", HostnameError::IpLiteral),
            ("10.0.0.256", HostnameError::IpLiteral),
            ("::1", HostnameError::IpLiteral),
            ("[::1]:443", HostnameError::IpLiteral),
            ("a.example:443", HostnameError::Port),
            (&long_name, HostnameError::NameTooLong),
            (&long_wildcard, HostnameError::NameTooLong),
            (&long_label, HostnameError::LabelTooLong),
            ("a..example", HostnameError::EmptyLabel),
            (".example", HostnameError::EmptyLabel),
            ("a.example..", HostnameError::EmptyLabel),
            ("*", HostnameError::Wildcard),
            ("a.*.example", HostnameError::Wildcard),
            ("*.*.example", HostnameError::Wildcard),
            ("w*.example", HostnameError::Wildcard),
            ("-a.example", HostnameError::Hyphen),
            ("a-.example", HostnameError::Hyphen),
            ("https://a.example", HostnameError::Character(':')),
            ("a b.example", HostnameError::Character(' ')),
        ] {
            assert_eq!(HostnamePattern::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn the_longest_name_fits() {
        let name = format!("{}abc", "a.".repeat(125));
        assert_eq!(name.len(), 253);
        assert_eq!(Hostname::parse(&format!("{name}.")).unwrap().as_str(), name);
    }
}
