//! Certificates that cover a hostname of another tenant. A browser that has a connection to one tenant sends requests for
//! every name of its certificate over it (RFC 9113 section 9.1.1), so that name's own tenant would miss them. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use config::{HostnamePattern, Tenant};

/// Whose hostnames there are.
#[derive(Debug)]
pub(super) struct Hostnames<'t> {
    /// As in certificates, wildcards with `*.`.
    owners: HashMap<String, &'t str>,
    /// The exact ones by what follows their first label.
    below: HashMap<&'t str, Vec<(&'t str, &'t str)>>,
}

impl<'t> Hostnames<'t> {
    pub(super) fn of(tenants: &'t [Arc<Tenant>]) -> Self {
        let (mut owners, mut below) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for tenant in tenants {
            for pattern in &tenant.hostnames {
                owners.insert(pattern.to_string(), tenant.name.as_str());
                if let HostnamePattern::Exact(name) = pattern
                    && let Some((_, suffix)) = name.as_str().split_once('.')
                {
                    below.entry(suffix).or_default().push((name.as_str(), tenant.name.as_str()));
                }
            }
        }
        Self { owners, below }
    }

    /// The hostname and name of the first other tenant that a certificate with these names covers.
    pub(super) fn first_of_another(&self, tenant: &str, names: &[String]) -> Option<(String, String)> {
        names.iter().find_map(|name| {
            let same = self.owners.get(name).map(|owner| (name.as_str(), *owner));
            let covered = name.strip_prefix("*.").and_then(|suffix| self.below.get(suffix)).into_iter().flatten();
            let mut claims = same.into_iter().chain(covered.copied());
            let (hostname, owner) = claims.find(|(_, owner)| *owner != tenant)?;
            Some((hostname.to_owned(), owner.to_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use config::Config;

    use super::*;

    #[test]
    fn another_tenants_name_is_found_exact_and_below_a_wildcard_and_ones_own_is_not() {
        let tenant = |name: &str, hostnames: &str| {
            format!(
                "  - {{ name: {name}, hostnames: [{hostnames}], mode: Passthrough, backends: [{{ address: \"127.0.0.1:1\" }}] }}\n"
            )
        };
        let config = Config::from_yaml(&format!(
            "listeners: [{{ name: tls, address: \"127.0.0.1:8443\" }}]\ntenants:\n{}{}",
            tenant("a", "\"api.a.example\", \"*.wide.example\""),
            tenant("b", "\"b.example\", \"www.a.example\""),
        ))
        .unwrap();
        let hostnames = Hostnames::of(&config.tenants);
        let found = |tenant: &str, name: &str| {
            let found = hostnames.first_of_another(tenant, &["127.0.0.1".to_owned(), name.to_owned()]);
            found.map(|(hostname, owner)| format!("{hostname} {owner}"))
        };
        assert_eq!(found("a", "api.a.example"), None);
        assert_eq!(found("b", "api.a.example").as_deref(), Some("api.a.example a"));
        assert_eq!(found("a", "*.a.example").as_deref(), Some("www.a.example b"), "beside its own");
        assert_eq!(found("b", "*.wide.example").as_deref(), Some("*.wide.example a"));
        assert_eq!(found("b", "*.example").as_deref(), None, "b.example is its own");
    }
}
