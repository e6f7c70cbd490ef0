//! Source prefixes: who may connect. Pure.

use std::net::IpAddr;

use config::ClientFilter;

/// Whether a client may connect: in `allow` (or `allow` is empty) and not in `deny`. An IPv4 client that a dual-stack
/// socket shows as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2) is compared as IPv4.
pub fn admits(filter: &ClientFilter, client: IpAddr) -> bool {
    let client = client.to_canonical();
    let allowed = filter.allow.is_empty() || filter.allow.iter().any(|prefix| prefix.contains(&client));
    allowed && !filter.deny.iter().any(|prefix| prefix.contains(&client))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(allow: &[&str], deny: &[&str]) -> ClientFilter {
        let parse = |prefixes: &[&str]| prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        ClientFilter { allow: parse(allow), deny: parse(deny) }
    }

    #[test]
    fn an_empty_filter_admits_everybody() {
        assert!(admits(&filter(&[], &[]), "192.0.2.1".parse().unwrap()));
        assert!(admits(&filter(&[], &[]), "2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn deny_beats_allow() {
        let filter = filter(&["192.0.2.0/24"], &["192.0.2.128/25"]);
        assert!(admits(&filter, "192.0.2.1".parse().unwrap()));
        assert!(!admits(&filter, "192.0.2.129".parse().unwrap()));
        assert!(!admits(&filter, "198.51.100.1".parse().unwrap()));
    }

    #[test]
    fn a_mapped_address_is_compared_as_ipv4() {
        assert!(!admits(&filter(&[], &["192.0.2.0/24"]), "::ffff:192.0.2.1".parse().unwrap()));
    }
}
