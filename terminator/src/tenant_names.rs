//! Which server names this terminator answers to. Pure; built once from the configuration.
//! The router routed by its own parser; this is the second opinion, on the hello as rustls read it.

use std::borrow::Cow;
use std::collections::HashSet;

use config::{Config, Fallback, HostnamePattern};

/// The names of one tenant, as far as its terminator needs them.
#[derive(Debug)]
pub struct TenantNames {
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
    pub fn new(config: &Config, index: usize) -> Self {
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
    pub fn accept(&self, in_hello: Option<&str>, in_handoff: Option<&str>, listener: &str) -> bool {
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
