//! Names to tenants: exact names first, then the wildcard of the name's parent. Never sees a connection.

use config::{Config, HostnamePattern};
use hashbrown::HashMap;

/// An immutable table of all hostnames. Two hash look-ups answer any name, so a million names cost what ten cost.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: HashMap<Box<str>, u32>,
    wildcard: HashMap<Box<str>, u32>,
}

/// What a name matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The name itself; holds the tenant's index in the configuration.
    Exact(usize),
    /// `*.` and the name without its first label; holds the tenant's index in the configuration.
    Wildcard(usize),
}

impl RouteTable {
    /// Builds the table of a configuration, in which no hostname is claimed twice.
    pub fn new(config: &Config) -> Self {
        let names = config.tenants.iter().map(|tenant| tenant.hostnames.len()).sum();
        let mut table = Self { exact: HashMap::with_capacity(names), wildcard: HashMap::new() };
        for (index, tenant) in (0_u32..).zip(&config.tenants) {
            for pattern in &tenant.hostnames {
                match pattern {
                    HostnamePattern::Exact(name) => table.exact.insert(name.as_str().into(), index),
                    HostnamePattern::Wildcard(suffix) => table.wildcard.insert(suffix.as_str().into(), index),
                };
            }
        }
        table
    }

    /// Finds the tenant of a server name as a client sent it: case does not matter (RFC 4343), nor does one trailing
    /// dot. A name longer than 253 characters matches nothing (RFC 1035 section 2.3.4).
    pub fn find(&self, server_name: &str) -> Option<Match> {
        let mut buffer = [0; MAX_NAME];
        let name = canonical(server_name, &mut buffer)?;
        if let Some(&tenant) = self.exact.get(name) {
            return Some(Match::Exact(tenant as usize));
        }
        // A wildcard covers exactly one label (RFC 9525 section 6.3), so only one suffix can match, and it is the
        // longest.
        let (_, parent) = name.split_once('.')?;
        let &tenant = self.wildcard.get(parent)?;
        Some(Match::Wildcard(tenant as usize))
    }

    /// How many hostnames the table holds.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len()
    }

    /// Whether the table holds no hostname.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Lower case and without the trailing dot, in `buffer`.
fn canonical<'b>(server_name: &str, buffer: &'b mut [u8; MAX_NAME]) -> Option<&'b str> {
    let name = server_name.strip_suffix('.').unwrap_or(server_name).as_bytes();
    let target = buffer.get_mut(..name.len())?;
    target.copy_from_slice(name);
    target.make_ascii_lowercase();
    std::str::from_utf8(target).ok()
}

/// Characters of the longest name without its trailing dot (RFC 1035 section 2.3.4: 255 octets on the wire).
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(yaml_hostnames: &[(&str, &[&str])]) -> RouteTable {
        let mut yaml = String::from("listeners: [{ name: tls, address: \"127.0.0.1:8443\" }]\ntenants:\n");
        for (tenant, hostnames) in yaml_hostnames {
            let hostnames = hostnames.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            yaml += &format!(
                "  - {{ name: {tenant}, hostnames: [{hostnames}], mode: Passthrough, backends: [{{ address: \"127.0.0.1:1\" }}] }}\n"
            );
        }
        RouteTable::new(&Config::from_yaml(&yaml).unwrap())
    }

    #[test]
    fn exact_beats_wildcard() {
        let table = table(&[("wild", &["*.acme.example"]), ("api", &["api.acme.example"])]);
        assert_eq!(table.find("api.acme.example"), Some(Match::Exact(1)));
        assert_eq!(table.find("web.acme.example"), Some(Match::Wildcard(0)));
    }

    #[test]
    fn the_longest_wildcard_suffix_wins() {
        let table = table(&[("short", &["*.example"]), ("long", &["*.acme.example"])]);
        assert_eq!(table.find("web.acme.example"), Some(Match::Wildcard(1)));
        assert_eq!(table.find("acme.example"), Some(Match::Wildcard(0)));
    }

    #[test]
    fn a_wildcard_covers_exactly_one_label() {
        let table = table(&[("wild", &["*.acme.example"])]);
        assert_eq!(table.find("acme.example"), None);
        assert_eq!(table.find("a.b.acme.example"), None);
    }

    #[test]
    fn case_and_a_trailing_dot_do_not_matter() {
        let table = table(&[("api", &["api.acme.example"])]);
        assert_eq!(table.find("API.Acme.EXAMPLE."), Some(Match::Exact(0)));
        assert_eq!(table.find("api.acme.example.."), None);
    }

    #[test]
    fn over_long_and_empty_names_match_nothing() {
        let table = table(&[("wild", &["*.acme.example"])]);
        assert_eq!(table.find(&"a".repeat(300)), None);
        assert_eq!(table.find(""), None);
        assert_eq!(table.find("."), None);
    }
}
