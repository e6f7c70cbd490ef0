//! The extension server_name (RFC 6066 3), and what counts as a hostname in it.
//!
//! The rules are those of rustls (`DnsName` of rustls-pki-types), so that the router and a terminator never disagree
//! on whether a name is one: letters, digits, hyphens and underscores, and one trailing dot is let through.

use std::net::IpAddr;

use crate::malformed::Malformed;
use crate::vector;

/// Why a host_name is not a hostname.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NameError {
    /// It has no byte; HostName is `opaque<1..2^16-1>`.
    #[error("is empty (RFC 6066 3)")]
    Empty,
    /// It holds a NUL, which some servers take for its end.
    #[error("holds a NUL byte (RFC 1123 2.1)")]
    Nul,
    /// It holds a byte above 127; an internationalised name must come as A-labels.
    #[error("is not ASCII (RFC 6066 3)")]
    NotAscii,
    /// It is an IPv4 or IPv6 address in text form.
    #[error("is an IP address (RFC 6066 3)")]
    IpLiteral,
    /// It is longer than 253 bytes, or one of its labels longer than 63.
    #[error("is too long, or one of its labels is (RFC 1035 2.3.4)")]
    TooLong,
    /// A label is empty, begins or ends with a hyphen or holds another character than letters, digits, hyphens and
    /// underscores, or the last one is a number.
    #[error("is not a hostname (RFC 1123 2.1)")]
    NotHostname,
}

/// Reads the data of the extension server_name: the one host_name, as sent.
pub(crate) fn read(data: &[u8]) -> Result<&str, Malformed> {
    let list = vector::filling_u16(data).ok_or(Malformed::ServerNameList)?;
    let (&name_type, rest) = list.split_first().ok_or(Malformed::ServerNameList)?;
    if name_type != HOST_NAME {
        return Err(Malformed::NameType(name_type));
    }
    let (name, behind) = vector::split_u16(rest).ok_or(Malformed::ServerNameList)?;
    match behind.first() {
        None => Ok(hostname(name)?),
        Some(&HOST_NAME) => Err(Malformed::SeveralNames),
        Some(&name_type) => Err(Malformed::NameType(name_type)),
    }
}

fn hostname(name: &[u8]) -> Result<&str, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.contains(&0) {
        return Err(NameError::Nul);
    }
    let name = str::from_utf8(name).ok().filter(|name| name.is_ascii()).ok_or(NameError::NotAscii)?;
    // RFC 6066 3 wants no trailing dot, yet some clients send it; it ends an absolute name (RFC 1034 3.1).
    let absolute = name.strip_suffix('.').unwrap_or(name);
    if is_ip_literal(absolute) {
        return Err(NameError::IpLiteral);
    }
    if name.len() > LONGEST_NAME {
        return Err(NameError::TooLong);
    }
    let mut last = "";
    for label in absolute.split('.') {
        check_label(label)?;
        last = label;
    }
    // "the highest-level component label will be alphabetic" (RFC 1123 2.1), which keeps hostnames and the many
    // spellings of IPv4 addresses, such as 127.1, apart.
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NameError::NotHostname);
    }
    Ok(name)
}

fn check_label(label: &str) -> Result<(), NameError> {
    if label.len() > LONGEST_LABEL {
        return Err(NameError::TooLong);
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if label.is_empty() || label.starts_with('-') || label.ends_with('-') || !label.bytes().all(is_allowed) {
        return Err(NameError::NotHostname);
    }
    Ok(())
}

/// Also `[::1]` and `fe80::1%eth0`, which clients copy from URLs and interface lists.
fn is_ip_literal(name: &str) -> bool {
    let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let (address, _zone) = inside.split_once('%').unwrap_or((inside, ""));
    address.parse::<IpAddr>().is_ok()
}

/// NameType host_name (RFC 6066 3), the only one there is.
const HOST_NAME: u8 = 0;
/// A name has at most 255 octets in a DNS message (RFC 1035 2.3.4), of which the first length octet and the root
/// label are not part of its text.
const LONGEST_NAME: usize = 253;
/// RFC 1035 2.3.4.
const LONGEST_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, why: NameError) {
        assert_eq!(hostname(name.as_bytes()), Err(why), "{name}");
    }

    fn list(entries: &[(u8, &[u8])]) -> Vec<u8> {
        let mut list = Vec::new();
        for (name_type, name) in entries {
            list.push(*name_type);
            list.extend((name.len() as u16).to_be_bytes());
            list.extend(*name);
        }
        [&(list.len() as u16).to_be_bytes()[..], &list].concat()
    }

    #[test]
    fn hostnames_come_back_as_sent() {
        for name in [
            "example.com",
            "EXAMPLE.Com",
            "localhost",
            "a.b.c.d.e",
            "xn--bcher-kva.example",
            "_acme-challenge.example",
            "under_score.example",
            "1.example",
            "1a",
            "r3---sn-4g5e6nsz.example",
            "example.com.",
        ] {
            assert_eq!(hostname(name.as_bytes()), Ok(name));
        }
    }

    #[test]
    fn an_empty_name_is_refused() {
        refused("", NameError::Empty);
    }

    #[test]
    fn a_nul_is_refused_wherever_it_stands() {
        refused("\0", NameError::Nul);
        refused("good.example\0.evil.example", NameError::Nul);
        refused("good.example\0", NameError::Nul);
    }

    #[test]
    fn a_name_that_is_not_ascii_is_refused() {
        refused("bücher.example", NameError::NotAscii);
        assert_eq!(hostname(b"a\xff.example"), Err(NameError::NotAscii));
    }

    #[test]
    fn ip_addresses_are_refused() {
        for name in
            ["192.0.2.1", "192.0.2.1.", "2001:db8::1", "[2001:db8::1]", "::", "::ffff:192.0.2.1", "fe80::1%eth0"]
        {
            refused(name, NameError::IpLiteral);
        }
    }

    #[test]
    fn a_last_label_of_digits_is_refused() {
        refused("127.1", NameError::NotHostname);
        refused("2130706433", NameError::NotHostname);
        refused("host.123.", NameError::NotHostname);
    }

    #[test]
    fn a_name_of_253_bytes_passes_and_one_of_254_is_too_long() {
        let longest = format!("{}a.b", "abc.".repeat(62) + "a.");
        assert_eq!(longest.len(), 253);
        assert_eq!(hostname(longest.as_bytes()), Ok(&*longest));
        refused(&format!("{longest}c"), NameError::TooLong);
        refused(&"a".repeat(u16::MAX.into()), NameError::TooLong);
    }

    #[test]
    fn a_label_of_63_bytes_passes_and_one_of_64_is_too_long() {
        let longest = format!("{}.example", "a".repeat(63));
        assert_eq!(hostname(longest.as_bytes()), Ok(&*longest));
        refused(&format!("a{longest}"), NameError::TooLong);
    }

    #[test]
    fn what_is_no_hostname_is_refused() {
        for name in [
            ".",
            "..",
            ".example",
            "a..example",
            "example..",
            "-a.example",
            "a-.example",
            "a b.example",
            "*.example",
            "a.example:443",
            "a/b",
            "[a]",
            "a.example\n",
        ] {
            refused(name, NameError::NotHostname);
        }
    }

    #[test]
    fn one_host_name_is_read() {
        assert_eq!(read(&list(&[(0, b"a.example")])), Ok("a.example"));
    }

    #[test]
    fn several_host_names_are_malformed() {
        let names = list(&[(0, b"a.example"), (0, b"b.example")]);
        assert_eq!(read(&names), Err(Malformed::SeveralNames));
        let same = list(&[(0, b"a.example"), (0, b"a.example")]);
        assert_eq!(read(&same), Err(Malformed::SeveralNames));
    }

    #[test]
    fn an_unknown_name_type_is_malformed_before_and_behind() {
        assert_eq!(read(&list(&[(1, b"x")])), Err(Malformed::NameType(1)));
        let behind = list(&[(0, b"a.example"), (7, b"x")]);
        assert_eq!(read(&behind), Err(Malformed::NameType(7)));
    }

    #[test]
    fn a_broken_list_is_malformed() {
        let one = list(&[(0, b"a.example")]);
        let trailing = [&one[..], &[0]].concat();
        for data in [&[][..], &[0], &[0, 0], &[0, 1, 0], &[0, 2, 0, 0], &one[..one.len() - 1], &trailing] {
            assert_eq!(read(data), Err(Malformed::ServerNameList), "{data:?}");
        }
    }
}
