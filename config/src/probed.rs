//! Who is asked for certificates (`certificateProbe`), and what the process that asks is started with. Pure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hashbrown::HashSet;

use crate::backend_address::BackendAddress;
use crate::hostname::HostnamePattern;
use crate::model::{Config, Identity, Mode, ProxyVersion, SandboxPolicy, Tenant, User};
use crate::uid::allot;

impl Config {
    /// The tenants whose backends are probed.
    pub fn probed(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.iter().map(AsRef::as_ref).filter(|tenant| tenant.certificate_probe.is_some())
    }

    /// The socket at which the router asks the prober. In the folder of none of the tenants.
    pub fn prober_socket(&self) -> PathBuf {
        prober_socket(&self.runtime_dir)
    }

    /// The identity that the prober runs under when it is started as root: one of the uid range that nobody else has.
    /// Tenants come first, so that it never moves one of theirs. `None` where none is left.
    pub fn prober_identity(&self) -> Option<Identity> {
        let terminators = self.tenants.iter().filter_map(|tenant| match &tenant.mode {
            Mode::Terminate(terminate) => Some(terminate.identity),
            Mode::Passthrough => None,
        });
        let taken: HashSet<u32> =
            terminators.flat_map(|identity| [identity.uid, identity.gid]).chain(self.known_router_uid()).collect();
        let uid = *allot(self.uid_range, &taken, [PROBER])?.get(PROBER)?;
        Some(Identity { uid, gid: uid })
    }

    /// All that the prober is started with; `None` where nobody is probed, and no prober needed. It need not be replaced as
    /// long as this is equal.
    pub fn prober_settings(&self) -> Option<ProberSettings<'_>> {
        let tenants: Vec<_> = self.probed().map(ProbedTenant::of).collect();
        (!tenants.is_empty()).then(|| ProberSettings {
            tenants,
            identity: self.prober_identity(),
            sandbox_policy: self.sandbox_policy,
            router: &self.user,
        })
    }
}

/// The path of [`Config::prober_socket`] below a runtime folder.
pub(crate) fn prober_socket(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("prober").join("status.sock")
}

/// What the prober is started with.
#[derive(Debug, PartialEq, Eq)]
pub struct ProberSettings<'c> {
    tenants: Vec<ProbedTenant<'c>>,
    identity: Option<Identity>,
    sandbox_policy: SandboxPolicy,
    /// Who may ask it.
    router: &'c Option<User>,
}

/// What the prober knows of a tenant.
#[derive(Debug, PartialEq, Eq)]
pub struct ProbedTenant<'c> {
    name: &'c str,
    hostnames: &'c [HostnamePattern],
    backends: Vec<&'c BackendAddress>,
    proxy_protocol: Option<ProxyVersion>,
    every: Option<Duration>,
}

impl<'c> ProbedTenant<'c> {
    fn of(tenant: &'c Tenant) -> Self {
        Self {
            name: &tenant.name,
            hostnames: &tenant.hostnames,
            backends: tenant.backends.iter().map(|target| &target.address).collect(),
            proxy_protocol: tenant.proxy_protocol.as_ref().map(|header| header.version),
            every: tenant.certificate_probe,
        }
    }
}

/// Decides which uid of the range it is.
const PROBER: &str = "certificate probe";

#[cfg(test)]
mod tests {
    use super::*;

    const PROBED: &str = "certificateProbe: 1h";

    fn config(head: &str, lines: &str) -> Config {
        Config::from_yaml(&text(head, lines)).unwrap()
    }

    fn text(head: &str, lines: &str) -> String {
        format!(
            "{head}\nlisteners: [{{ name: tls, address: \"127.0.0.1:8443\" }}]\ntenants:\n  - name: p\n    hostnames: [p.example]\n    \
             mode: Passthrough\n    backends: [{{ address: \"127.0.0.1:1\" }}]\n    {lines}\n  - name: t\n    \
             hostnames: [t.example]\n    mode: Terminate\n    tls: {{ certificates: [{{ secretDir: /t }}] }}\n    \
             backends: [{{ address: \"127.0.0.1:2\" }}]\n"
        )
    }

    #[test]
    fn without_a_probed_tenant_there_is_no_prober() {
        assert_eq!(config("", "").prober_settings(), None);
        assert_eq!(config("", PROBED).probed().map(|tenant| &*tenant.name).collect::<Vec<_>>(), ["p"]);
    }

    #[test]
    fn only_what_it_sees_replaces_the_prober() {
        let before = config("", PROBED);
        let same = |after: &Config| before.prober_settings() == after.prober_settings();
        assert!(same(&config("", "certificateProbe: 1h\n    idleTimeout: 3s\n    balance: Random")));
        assert!(!same(&config("", "certificateProbe: 2h")));
        assert!(!same(&config("", "certificateProbe: 1h\n    proxyProtocol: { version: v1 }")));
        assert!(!same(&config("sandbox: { policy: Required }", PROBED)));
    }

    #[test]
    fn its_uid_is_nobody_elses_and_moves_nobodys() {
        let (with, without) = (config("", PROBED), config("", ""));
        assert_eq!(with.tenant_uid("t"), without.tenant_uid("t"));
        let uid = with.prober_identity().unwrap().uid;
        assert!(![with.tenant_uid("t"), Some(crate::DEFAULT_ROUTER_UID)].contains(&Some(uid)));
        assert_ne!(config(&format!("user: {uid}"), PROBED).prober_identity().unwrap().uid, uid);
    }

    #[test]
    fn a_range_without_a_uid_for_it_is_an_error() {
        let errors = Config::from_yaml(&text("uidRange: [70000, 70000]", PROBED)).unwrap_err().to_string();
        assert_eq!(
            errors,
            "1:11: uidRange: [70000, 70000] has no uid left for the process behind certificateProbe: widen it"
        );
        assert!(Config::from_yaml(&text("uidRange: [70000, 70000]", "")).is_ok());
    }
}
