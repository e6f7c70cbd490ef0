//! What lies between two configurations of the same process: what a running router can apply, what takes another router
//! process, and what needs a restart. Pure.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::error::{ConfigError, ConfigErrors, LoadError, Position};
use crate::hostname::HostnamePattern;
use crate::model::{
    AccessLogPath, ClientAddress, Config, DataPath, Fallback, Listener, Mode, SandboxPolicy, Tenant, User,
};
use crate::yaml::{self, Value};

impl Config {
    /// The fields that differ from those of `next` and that nothing but a restart can change: everything that a supervisor
    /// and its children share lies there.
    pub fn fixed_fields_that_differ(&self, next: &Self) -> Vec<&'static str> {
        if self.runtime_dir == next.runtime_dir { Vec::new() } else { vec!["runtimeDir"] }
    }

    /// The fields that differ from those of `next` and that a router process cannot change: what they stand for is made
    /// before it gives up its privileges, or once per thread. Another process can have it otherwise.
    pub fn process_fields_that_differ(&self, next: &Self) -> Vec<&'static str> {
        let process = [
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
            (
                "dataPath (the first clients and backends that are not on this host)",
                self.data_path == DataPath::Auto
                    && next.data_path == DataPath::Auto
                    && next.can_cut_through()
                    && !self.can_cut_through(),
            ),
        ];
        process.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
    }

    /// Whether the kernel could carry any connection: not one whose client or backend is on this host.
    pub fn can_cut_through(&self) -> bool {
        let from_outside = |listener: &Listener| !listener.address.ip().is_loopback() || !listener.steer.is_empty();
        let to_outside = |tenant: &Arc<Tenant>| {
            tenant.mode == Mode::Passthrough
                && tenant.client_address == ClientAddress::Router
                && tenant.backends.iter().any(|backend| !backend.address.is_loopback())
        };
        self.listeners.iter().any(from_outside) && self.tenants.iter().any(to_outside)
    }

    /// Takes over from `before` every tenant that has not changed, so that the two share it.
    pub fn share_tenants_with(&mut self, before: &Self) {
        let all = || before.tenants.iter();
        let shared: LazyCell<HashSet<*const Tenant>, _> = LazyCell::new(|| all().map(Arc::as_ptr).collect());
        let by_name = || all().map(|tenant| (tenant.name.as_str(), tenant)).collect();
        let known: LazyCell<HashMap<&str, &Arc<Tenant>>, _> = LazyCell::new(by_name);
        for (place, tenant) in self.tenants.iter_mut().enumerate() {
            // Most often it is where it was.
            let there = before.tenants.get(place).filter(|known| known.name == tenant.name);
            let is_shared = match there {
                Some(known) => Arc::ptr_eq(known, tenant),
                None => shared.contains(&Arc::as_ptr(tenant)),
            };
            if is_shared {
                continue;
            }
            let same = there.or_else(|| known.get(tenant.name.as_str()).copied());
            if let Some(same) = same.filter(|known| ***known == **tenant) {
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
        let claimants = self.tenants.iter().filter(|_| !wildcards.is_empty());
        for tenant in claimants {
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
    /// Whose hand-offs it accepts.
    router: &'c Option<User>,
    /// Where what it generates lies.
    state_dir: &'c Path,
    access_log: &'c Option<AccessLogPath>,
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
            router: &config.user,
            state_dir: &config.state_dir,
            access_log: &config.access_log,
            fallbacks: listeners.filter(|(_, nameless, unmatched)| *nameless || *unmatched).collect(),
            exceptions: BTreeSet::new(),
        }
    }
}

/// `fields` of the text of the file at `path` cannot be what they are, for this reason. A field that the text does not have
/// is one whose default is another value.
pub fn refused_fields(path: &Path, text: &str, fields: &[&'static str], why: &str) -> LoadError {
    let top = match yaml::parse(text).map(|node| node.value) {
        Ok(Value::Group(fields)) => fields,
        _ => Vec::new(),
    };
    let errors = fields.iter().map(|field| {
        let name = field.split(['[', '.', ' ']).next().unwrap_or_default();
        let position = top.iter().find(|(key, _)| key.name == name).map_or(Position::START, |(key, _)| key.position);
        ConfigError { position, field: (*field).to_owned(), message: why.to_owned() }
    });
    LoadError::Invalid { path: path.to_owned(), errors: ConfigErrors::new(errors.collect(), 0) }
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
    fn what_was_made_with_privileges_takes_another_process() {
        let before = config("workers: 1", LISTENER, &[WILD]);
        assert!(before.process_fields_that_differ(&before).is_empty());
        assert_eq!(before.process_fields_that_differ(&config("workers: 2", LISTENER, &[WILD])), ["workers"]);
        let other_port = r#"{ name: tls, address: "127.0.0.1:8444" }"#;
        assert!(before.process_fields_that_differ(&config("workers: 1", other_port, &[WILD])).is_empty());
        let transparent = passthrough("b", "b.example").replace("mode:", "clientAddress: Transparent, mode:");
        let transparent = config("workers: 1", LISTENER, &[WILD, &transparent]);
        assert_eq!(before.process_fields_that_differ(&transparent).len(), 1);
        assert!(transparent.process_fields_that_differ(&before).is_empty());
        let steered = r#"{ name: tls, address: "127.0.0.1:8443", steer: ["192.0.2.0/24:443"] }"#;
        let steered = config("workers: 1", steered, &[WILD]);
        assert_eq!(before.process_fields_that_differ(&steered).len(), 1);
        assert!(steered.process_fields_that_differ(&steered).is_empty());
    }

    #[test]
    fn the_first_connection_that_the_kernel_could_carry_takes_another_process() {
        let outside = r#"{ name: tls, address: "192.0.2.1:8443" }"#;
        let local = passthrough("b", "b.example");
        let remote = local.replace("127.0.0.1:2", "192.0.2.2:443");
        let with = |head, tenant: &str| config(head, outside, &[tenant]);
        let differ = |before: &Config, after: &Config| before.process_fields_that_differ(after).len();
        assert_eq!(differ(&with("", &local), &with("", &remote)), 1);
        assert_eq!(differ(&with("", &remote), &with("", &local)), 0);
        assert_eq!(differ(&with("dataPath: Copy", &local), &with("dataPath: Copy", &remote)), 0);
        assert_eq!(differ(&config("", LISTENER, &[&local]), &config("", LISTENER, &[&remote])), 0);
    }

    #[test]
    fn what_needs_a_restart_is_pointed_at() {
        let text = "workers: 1\nruntimeDir: /run/other\n";
        let before = config("", LISTENER, &[WILD]);
        let fields = before.fixed_fields_that_differ(&config(text, LISTENER, &[WILD]));
        let refused = |text| refused_fields(Path::new("c.yaml"), text, &fields, "cannot change").to_string();
        assert_eq!(refused(text), "c.yaml:2:1: runtimeDir: cannot change");
        assert_eq!(refused("workers: 1"), "c.yaml:1:1: runtimeDir: cannot change");
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
        for head in ["sandbox: { policy: Required }", "user: 1234", "stateDir: /s", "accessLog: { path: /l }"] {
            assert!(!same(&config(head, LISTENER, &[WILD])), "{head}");
        }
        assert!(same(&config("workers: 3", LISTENER, &[WILD])));
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
