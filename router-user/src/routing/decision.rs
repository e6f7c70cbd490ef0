//! One question, one decision: the whole routing policy in one pure function.

use std::net::IpAddr;

use config::{Config, Fallback, Listener, Mode};

use super::{Match, RouteTable, admits};

/// The routing policy of one configuration.
#[derive(Debug)]
pub struct Routing {
    table: RouteTable,
}

/// What is asked of the policy.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// The listener that accepted the connection.
    pub listener: &'q Listener,
    /// The client's address.
    pub client: IpAddr,
    /// The name in the hello, as the client sent it.
    pub server_name: Option<&'q str>,
}

/// Where a connection goes. Tenants are indices of [`Config::tenants`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To the tenant's backend, end to end.
    Passthrough {
        /// The tenant's index.
        tenant: usize,
        /// Why this tenant.
        rule: Rule,
    },
    /// To the tenant's terminator.
    Terminate {
        /// The tenant's index.
        tenant: usize,
        /// Why this tenant.
        rule: Rule,
    },
    /// To nobody.
    Reject(Refusal),
}

/// Which rule chose the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The hostname is configured as it is.
    Exact,
    /// A wildcard covers the name.
    Wildcard,
    /// The listener's `onUnmatched`.
    OnUnmatched,
    /// The listener's `onNoServerName`.
    OnNoServerName,
}

/// Why nobody gets the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No tenant claims the name.
    UnknownName,
    /// The hello has no name, and the listener has no tenant for that.
    NoServerName,
    /// The tenant does not admit this client. Listeners ask before they peek.
    ClientDenied {
        /// The tenant's index.
        tenant: usize,
    },
}

impl Routing {
    /// The policy of `config`.
    pub fn new(config: &Config) -> Self {
        Self { table: RouteTable::new(config) }
    }

    /// Decides one connection.
    pub fn decide(&self, config: &Config, question: Question<'_>) -> Decision {
        let (tenant, rule) = match question.server_name {
            Some(name) => match (self.table.find(name), question.listener.on_unmatched) {
                (Some(Match::Exact(tenant)), _) => (tenant, Rule::Exact),
                (Some(Match::Wildcard(tenant)), _) => (tenant, Rule::Wildcard),
                (None, Fallback::Tenant(tenant)) => (tenant, Rule::OnUnmatched),
                (None, Fallback::Reject) => return Decision::Reject(Refusal::UnknownName),
            },
            None => match question.listener.on_no_server_name {
                Fallback::Tenant(tenant) => (tenant, Rule::OnNoServerName),
                Fallback::Reject => return Decision::Reject(Refusal::NoServerName),
            },
        };
        let policy = &config.tenants[tenant];
        if !admits(&policy.clients, question.client) {
            return Decision::Reject(Refusal::ClientDenied { tenant });
        }
        match policy.mode {
            Mode::Passthrough => Decision::Passthrough { tenant, rule },
            Mode::Terminate(_) => Decision::Terminate { tenant, rule },
        }
    }
}

impl Refusal {
    /// The refusal in words, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::UnknownName => "no tenant claims the server name",
            Self::NoServerName => "the ClientHello has no server name",
            Self::ClientDenied { .. } => "the tenant denies this client",
        }
    }
}

impl Rule {
    /// The rule in words, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Exact => "exact hostname",
            Self::Wildcard => "wildcard hostname",
            Self::OnUnmatched => "the listener's onUnmatched",
            Self::OnNoServerName => "the listener's onNoServerName",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
listeners:
  - { name: strict, address: "127.0.0.1:8443" }
  - { name: lenient, address: "127.0.0.1:8444", onUnmatched: web, onNoServerName: vault }
tenants:
  - { name: web, hostnames: ["web.example"], mode: Passthrough, backends: [{ address: "127.0.0.1:1" }] }
  - name: vault
    hostnames: ["*.vault.example"]
    mode: Terminate
    tls: { certificates: [{ secretDir: /nowhere }] }
    clients: { deny: ["192.0.2.0/24"] }
    backends: [{ address: "127.0.0.1:2" }]
"#;

    fn decide(listener: usize, client: &str, server_name: Option<&str>) -> Decision {
        let config = Config::from_yaml(CONFIG).unwrap();
        let question = Question { listener: &config.listeners[listener], client: client.parse().unwrap(), server_name };
        Routing::new(&config).decide(&config, question)
    }

    #[test]
    fn the_tenant_chooses_the_mode() {
        let passthrough = Decision::Passthrough { tenant: 0, rule: Rule::Exact };
        assert_eq!(decide(0, "127.0.0.1", Some("web.example")), passthrough);
        let terminate = Decision::Terminate { tenant: 1, rule: Rule::Wildcard };
        assert_eq!(decide(0, "127.0.0.1", Some("a.vault.example")), terminate);
    }

    #[test]
    fn what_nobody_claims_is_rejected_and_never_defaulted() {
        assert_eq!(decide(0, "127.0.0.1", Some("other.example")), Decision::Reject(Refusal::UnknownName));
        assert_eq!(decide(0, "127.0.0.1", None), Decision::Reject(Refusal::NoServerName));
    }

    #[test]
    fn a_listener_can_name_tenants_for_the_rest() {
        let unmatched = Decision::Passthrough { tenant: 0, rule: Rule::OnUnmatched };
        assert_eq!(decide(1, "127.0.0.1", Some("other.example")), unmatched);
        let no_name = Decision::Terminate { tenant: 1, rule: Rule::OnNoServerName };
        assert_eq!(decide(1, "127.0.0.1", None), no_name);
    }

    #[test]
    fn a_tenant_can_deny_clients() {
        let denied = Decision::Reject(Refusal::ClientDenied { tenant: 1 });
        assert_eq!(decide(0, "192.0.2.7", Some("a.vault.example")), denied);
        assert_eq!(decide(1, "192.0.2.7", None), denied);
    }
}
