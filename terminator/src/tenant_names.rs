//! Which server names this terminator answers to. Pure; built once from the configuration.
//! The router routed by its own parser; this is the second opinion, on the hello as rustls read it.

use std::borrow::Cow;
use std::collections::HashSet;

use config::{Config, Fallback, HostnamePattern};

/// The names of one tenant, as far as its terminator needs them.
#[derive(Debug)]
pub(crate) struct TenantNames {
    exact: HashSet<String>,
    wildcard_suffixes: HashSet<String>,
    /// Exact names of other tenants that one of our wildcards would cover: they win, as in the router.
    claimed_by_others: HashSet<String>,
    /// Listeners whose `onNoServerName` is this tenant.
    nameless_listeners: HashSet<String>,
    /// Listeners whose `onUnmatched` is this tenant.
    unmatched_listeners: HashSet<String>,
}

impl TenantNames {
    /// The names of the tenant at `index` of [`Config::tenants`].
    pub(crate) fn new(config: &Config, index: usize) -> Self {
        let mut names = Self {
            exact: HashSet::new(),
            wildcard_suffixes: HashSet::new(),
            claimed_by_others: HashSet::new(),
            nameless_listeners: HashSet::new(),
            unmatched_listeners: HashSet::new(),
        };
        for pattern in config.tenants.get(index).iter().flat_map(|tenant| &tenant.hostnames) {
            match pattern {
                HostnamePattern::Exact(name) => names.exact.insert(name.as_str().to_owned()),
                HostnamePattern::Wildcard(suffix) => names.wildcard_suffixes.insert(suffix.as_str().to_owned()),
            };
        }
        let others = config.tenants.iter().enumerate().filter(|(other, _)| *other != index);
        for pattern in others.flat_map(|(_, tenant)| &tenant.hostnames) {
            if let HostnamePattern::Exact(name) = pattern
                && parent(name.as_str()).is_some_and(|suffix| names.wildcard_suffixes.contains(suffix))
            {
                names.claimed_by_others.insert(name.as_str().to_owned());
            }
        }
        for listener in &config.listeners {
            if listener.on_no_server_name == Fallback::Tenant(index) {
                names.nameless_listeners.insert(listener.name.clone());
            }
            if listener.on_unmatched == Fallback::Tenant(index) {
                names.unmatched_listeners.insert(listener.name.clone());
            }
        }
        names
    }

    /// Whether a hello may be answered: `in_hello` is what rustls read, `in_handoff` what the router read on `listener`.
    pub(crate) fn accept(&self, in_hello: Option<&str>, in_handoff: Option<&str>, listener: &str) -> bool {
        match (in_hello, in_handoff) {
            (Some(name), in_handoff) => {
                let name = canonical(name);
                // A fallback takes names that nobody claims. Only the router knows all claims, so both parsers must
                // have read the same name.
                self.is_ours(&name)
                    || (self.unmatched_listeners.contains(listener)
                        && in_handoff.is_some_and(|routed| canonical(routed) == name))
            }
            (None, None) => self.nameless_listeners.contains(listener),
            (None, Some(_)) => false,
        }
    }

    fn is_ours(&self, name: &str) -> bool {
        self.exact.contains(name)
            || (parent(name).is_some_and(|suffix| self.wildcard_suffixes.contains(suffix))
                && !self.claimed_by_others.contains(name))
    }
}

/// The form in which names are compared: lower case, without a trailing dot.
pub(crate) fn canonical(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// What follows the first label; a wildcard of this suffix covers the name (RFC 9525 section 6.3).
pub(crate) fn parent(name: &str) -> Option<&str> {
    let (label, suffix) = name.split_once('.')?;
    (!label.is_empty() && !suffix.is_empty()).then_some(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(listener: &str, hostnames: &str, others: &str) -> TenantNames {
        let config = Config::from_yaml(&format!(
            "listeners:\n\
             - {{name: tls, address: '127.0.0.1:8443'{listener}}}\n\
             - {{name: strict, address: '127.0.0.1:8444'}}\n\
             tenants:\n\
             - {{name: other, hostnames: [{others}], mode: Passthrough, backends: [{{address: '127.0.0.1:1'}}]}}\n\
             - name: ours\n  hostnames: [{hostnames}]\n  mode: Terminate\n  backends: [{{address: '127.0.0.1:1'}}]\n  \
               tls: {{certificates: [{{secretDir: /x}}]}}\n"
        ))
        .unwrap();
        TenantNames::new(&config, 1)
    }

    #[test]
    fn exact_names_and_one_label_wildcards_are_ours_in_any_spelling() {
        let names = names("", "api.acme.example, '*.acme.example'", "x.example");
        for ours in ["api.acme.example", "API.Acme.Example.", "www.acme.example"] {
            assert!(names.accept(Some(ours), Some("whatever"), "tls"), "{ours}");
        }
        for foreign in ["acme.example", "a.b.acme.example", ".acme.example", "x.example", "", "."] {
            assert!(!names.accept(Some(foreign), Some(foreign), "tls"), "{foreign:?}");
        }
    }

    #[test]
    fn another_tenants_exact_name_is_not_ours_though_our_wildcard_covers_it() {
        let names = names("", "'*.acme.example'", "billing.acme.example");
        assert!(names.accept(Some("www.acme.example"), None, "tls"));
        assert!(!names.accept(Some("billing.acme.example"), Some("billing.acme.example"), "tls"));
    }

    #[test]
    fn no_name_is_accepted_only_where_the_router_saw_none_and_the_listener_sends_such_hellos_here() {
        let with_fallback = names(", onNoServerName: ours", "a.example", "x.example");
        assert!(with_fallback.accept(None, None, "tls"));
        assert!(!with_fallback.accept(None, Some("a.example"), "tls"));
        assert!(!with_fallback.accept(None, None, "strict"));
        assert!(!names("", "a.example", "x.example").accept(None, None, "tls"));
    }

    #[test]
    fn unmatched_names_are_accepted_only_where_both_parsers_read_the_same() {
        let names = names(", onUnmatched: ours", "a.example", "x.example");
        assert!(names.accept(Some("Stray.example"), Some("stray.example."), "tls"));
        assert!(!names.accept(Some("stray.example"), Some("other.example"), "tls"));
        assert!(!names.accept(Some("stray.example"), None, "tls"));
        assert!(!names.accept(Some("stray.example"), Some("stray.example"), "strict"));
    }
}
