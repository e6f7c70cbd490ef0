//! What lies between two configurations of the same process: what a reload can apply, and what needs a restart. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::hostname::HostnamePattern;
use crate::model::{Config, Fallback, Listener, Mode, SandboxPolicy, Tenant};

impl Config {
    /// The fields that differ from those of `next` and that a running router cannot change: what they stand for was
    /// made before it gave up its privileges.
    pub fn fixed_fields_that_differ(&self, next: &Self) -> Vec<&'static str> {
        let process = [
            ("runtimeDir", self.runtime_dir != next.runtime_dir),
            ("stateDir", self.state_dir != next.state_dir && self.runtime_dir == next.runtime_dir),
            ("workers", self.workers != next.workers),
            ("user", self.user != next.user),
            ("dataPath", self.data_path != next.data_path),
            ("admin", self.admin != next.admin),
            ("accessLog", self.access_log != next.access_log),
            (
                "tenants[].clientAddress (the first that is Transparent)",
                next.has_transparent_tenants() && !self.has_transparent_tenants(),
            ),
            ("listeners[].steer, or a listener beside it", self.steering() != next.steering()),
        ];
        process.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
    }

    /// Takes over from `before` every tenant that has not changed, so that the two share it.
    pub fn share_tenants_with(&mut self, before: &Self) {
        let known: HashMap<&str, &Arc<Tenant>> =
            before.tenants.iter().map(|tenant| (tenant.name.as_str(), tenant)).collect();
        for tenant in &mut self.tenants {
            if let Some(same) = known.get(tenant.name.as_str()).filter(|known| ***known == *tenant) {
                *tenant = Arc::clone(same);
            }
        }
    }

    /// All that the terminator of each tenant of mode Terminate is started with, by the tenant's name. A terminator need
    /// not be replaced as long as this is equal.
    pub fn terminator_settings(&self) -> HashMap<&str, TerminatorSettings<'_>> {
        let mut wildcards = HashMap::new();
        let mut settings = HashMap::new();
        for (index, tenant) in self.tenants.iter().enumerate() {
            if let Mode::Terminate(_) = tenant.mode {
                let suffixes = tenant.hostnames.iter().filter_map(|pattern| match pattern {
                    HostnamePattern::Wildcard(suffix) => Some((suffix.as_str(), tenant.name.as_str())),
                    HostnamePattern::Exact(_) => None,
                });
                wildcards.extend(suffixes);
                settings.insert(tenant.name.as_str(), TerminatorSettings::new(self, index));
            }
        }
        for tenant in &self.tenants {
            for pattern in &tenant.hostnames {
                let HostnamePattern::Exact(name) = pattern else { continue };
                let owner = name.as_str().split_once('.').and_then(|(_, parent)| wildcards.get(parent));
                if let Some(covered) =
                    owner.filter(|owner| **owner != tenant.name).and_then(|owner| settings.get_mut(owner))
                {
                    covered.exceptions.insert((name.as_str(), tenant.name.as_str()));
                }
            }
        }
        settings
    }

    /// What the kernel's program was filled with; empty when nothing is steered.
    fn steering(&self) -> Vec<impl PartialEq> {
        let steered = self.listeners.iter().any(|listener| !listener.steer.is_empty());
        let listeners = self.listeners.iter().filter(|_| steered);
        listeners.map(|Listener { name, address, steer, clients, .. }| (name, address, steer, &clients.deny)).collect()
    }
}

/// What a terminator is started with.
#[derive(Debug, PartialEq, Eq)]
pub struct TerminatorSettings<'c> {
    tenant: &'c Tenant,
    sandbox_policy: SandboxPolicy,
    /// Listeners that send it what nobody claims: without a server name, and with an unknown one.
    fallbacks: Vec<(&'c str, bool, bool)>,
    /// Exact names of other tenants that a wildcard of this one covers, and whose they are: it reads their part too.
    exceptions: BTreeSet<(&'c str, &'c str)>,
}

impl<'c> TerminatorSettings<'c> {
    fn new(config: &'c Config, index: usize) -> Self {
        let is_target = |fallback| fallback == Fallback::Tenant(index);
        let listeners = config.listeners.iter().map(|listener| {
            (listener.name.as_str(), is_target(listener.on_no_server_name), is_target(listener.on_unmatched))
        });
        Self {
            tenant: &config.tenants[index],
            sandbox_policy: config.sandbox_policy,
            fallbacks: listeners.filter(|(_, nameless, unmatched)| *nameless || *unmatched).collect(),
            exceptions: BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENER: &str = r#"{ name: tls, address: "127.0.0.1:8443" }"#;
    const WILD: &str = r#"{ name: wild, hostnames: ["*.a.example"], mode: Terminate, tls: { certificates: [{ secretDir: /w }] }, backends: [{ address: "127.0.0.1:1" }] }"#;

    fn config(head: &str, listener: &str, tenants: &[&str]) -> Config {
        let tenants: String = tenants.iter().map(|tenant| format!("  - {tenant}\n")).collect();
        Config::from_yaml(&format!("{head}\nlisteners: [{listener}]\ntenants:\n{tenants}")).unwrap()
    }

    fn passthrough(name: &str, hostname: &str) -> String {
        format!(
            r#"{{ name: {name}, hostnames: ["{hostname}"], mode: Passthrough, backends: [{{ address: "127.0.0.1:2" }}] }}"#
        )
    }

    #[test]
    fn what_was_made_with_privileges_is_fixed() {
        let before = config("workers: 1", LISTENER, &[WILD]);
        assert!(before.fixed_fields_that_differ(&before).is_empty());
        assert_eq!(before.fixed_fields_that_differ(&config("workers: 2", LISTENER, &[WILD])), ["workers"]);
        let other_port = r#"{ name: tls, address: "127.0.0.1:8444" }"#;
        assert!(before.fixed_fields_that_differ(&config("workers: 1", other_port, &[WILD])).is_empty());
        let transparent = passthrough("b", "b.example").replace("mode:", "clientAddress: Transparent, mode:");
        let transparent = config("workers: 1", LISTENER, &[WILD, &transparent]);
        assert_eq!(before.fixed_fields_that_differ(&transparent).len(), 1);
        assert!(transparent.fixed_fields_that_differ(&before).is_empty());
        let steered = r#"{ name: tls, address: "127.0.0.1:8443", steer: ["192.0.2.0/24:443"] }"#;
        let steered = config("workers: 1", steered, &[WILD]);
        assert_eq!(before.fixed_fields_that_differ(&steered).len(), 1);
        assert!(steered.fixed_fields_that_differ(&steered).is_empty());
    }

    #[test]
    fn only_what_its_terminator_sees_replaces_it() {
        let before = config("", LISTENER, &[WILD]);
        let same = |after: &Config| before.terminator_settings().get("wild") == after.terminator_settings().get("wild");
        assert!(same(&config("", LISTENER, &[&passthrough("b", "b.example"), WILD])));
        assert!(!same(&config("", LISTENER, &[&passthrough("b", "b.a.example"), WILD])));
        let of_b = config("", LISTENER, &[&passthrough("b", "b.a.example"), WILD]);
        let of_c = config("", LISTENER, &[&passthrough("c", "b.a.example"), WILD]);
        assert_ne!(of_b.terminator_settings().get("wild"), of_c.terminator_settings().get("wild"));
        assert!(!same(&config("", LISTENER, &[&WILD.replace(":1\"", ":3\"")])));
        assert!(!same(&config("sandbox: { policy: Required }", LISTENER, &[WILD])));
        assert!(!same(&config("", LISTENER, &[&passthrough("b", "b.example")])));
        let fallback = r#"{ name: tls, address: "127.0.0.1:8443", onUnmatched: wild }"#;
        assert!(!same(&config("", fallback, &[WILD])));
    }

    #[test]
    fn unchanged_tenants_are_shared() {
        let before = config("", LISTENER, &[WILD, &passthrough("b", "b.example")]);
        let mut after = config("", LISTENER, &[&passthrough("b", "c.example"), WILD]);
        after.share_tenants_with(&before);
        assert!(Arc::ptr_eq(&before.tenants[0], &after.tenants[1]));
        assert!(!Arc::ptr_eq(&before.tenants[1], &after.tenants[0]));
    }
}
