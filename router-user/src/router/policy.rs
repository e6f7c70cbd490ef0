//! What a configuration makes of connections, and what is kept about its tenants and listeners. A policy never changes:
//! a reload makes the next one, which takes over everything that stays.

use std::cell::LazyCell;
use std::sync::Arc;

use ::connection::{Backends, Limits};
use config::{Config, Listener, Mode, Tenant};
use hashbrown::HashMap;
use tokio::sync::watch;

use super::permits::Permits;
use super::sources::Sources;
use crate::metrics::TenantCounters;
use crate::names::Names;
use crate::routing::Routing;

/// One configuration in force.
#[derive(Debug)]
pub struct Policy {
    /// The configuration.
    pub config: Config,
    /// The routing policy.
    pub routing: Routing,
    /// What the backends' names stand for; the same for all policies of a process.
    pub names: Arc<Names>,
    /// One per listener, in the order of the configuration; a permit lives as long as the router holds the connection.
    pub permits: Vec<Arc<Permits>>,
    /// The same for what their sources use; `None` where that has no bound.
    pub sources: Vec<Option<Arc<Sources>>>,
    /// One per tenant, in the order of the configuration.
    pub tenants: Vec<Arc<TenantState>>,
}

/// A tenant and what is kept about it. Outlives the policy where a connection still needs it.
#[derive(Debug)]
pub struct TenantState {
    /// What the configuration says.
    pub settings: Arc<Tenant>,
    /// `None` unless the mode is Passthrough: terminators have their own.
    pub backends: Option<Arc<Backends>>,
    /// What it may use of the router.
    pub limits: Arc<Limits>,
    /// One per worker, which alone writes it.
    pub counters: Vec<Arc<TenantCounters>>,
}

impl Policy {
    /// The policy of a router that starts, with `workers` workers.
    pub fn new(config: Config, workers: usize) -> Self {
        let names = Arc::new(Names::default());
        let permits = config.listeners.iter().map(|listener| Arc::new(Permits::new(listener.max_connections)));
        let sources = config.listeners.iter().map(new_sources);
        let tenants = config.tenants.iter().map(|tenant| Arc::new(TenantState::new(tenant, workers, &names)));
        Self {
            routing: Routing::new(&config),
            permits: permits.collect(),
            sources: sources.collect(),
            tenants: tenants.collect(),
            names,
            config,
        }
    }

    /// The policy of the next configuration. From here on the bounds of connections are the new ones. Needs a runtime.
    pub fn succeed(&self, mut config: Config) -> Self {
        config.share_tenants_with(&self.config);
        let by_name = || self.tenants.iter().map(|tenant| (tenant.settings.name.as_str(), tenant)).collect();
        let known: LazyCell<HashMap<_, _>, _> = LazyCell::new(by_name);
        let (before, after) = (self.config.terminator_settings(), config.terminator_settings());
        let workers = self.tenants.first().map_or(0, |tenant| tenant.counters.len());
        let tenants = config.tenants.iter().enumerate().map(|(place, tenant)| {
            let name = tenant.name.as_str();
            // Most often it is where it was.
            let there = self.tenants.get(place).filter(|known| known.settings.name == name);
            match there.or_else(|| known.get(name).copied()) {
                None => Arc::new(TenantState::new(tenant, workers, &self.names)),
                // A terminator that is replaced is connected to anew.
                Some(same) if Arc::ptr_eq(&same.settings, tenant) && before.get(name) == after.get(name) => {
                    Arc::clone(same)
                }
                Some(known) => Arc::new(known.succeed(tenant, &self.names)),
            }
        });
        let tenants = tenants.collect();
        drop((before, after));
        let position = |listener: &Listener| self.config.listeners.iter().position(|known| known.name == listener.name);
        let sources = config.listeners.iter().map(|listener| {
            let known = position(listener).and_then(|known| self.sources[known].clone());
            listener.per_source.and_then(|_| known.or_else(|| new_sources(listener)))
        });
        let names = Arc::clone(&self.names);
        let permits = config.listeners.iter().map(|listener| match position(listener) {
            Some(known) => {
                self.permits[known].change(listener.max_connections);
                Arc::clone(&self.permits[known])
            }
            None => Arc::new(Permits::new(listener.max_connections)),
        });
        let (permits, sources) = (permits.collect(), sources.collect());
        Self { routing: Routing::new(&config), permits, sources, tenants, names, config }
    }

    /// The tenants of mode Terminate, and their places.
    pub(super) fn terminated(&self) -> impl Iterator<Item = (usize, &Arc<TenantState>)> {
        self.tenants.iter().enumerate().filter(|(_, tenant)| tenant.backends.is_none())
    }
}

impl TenantState {
    fn new(tenant: &Arc<Tenant>, workers: usize, names: &Names) -> Self {
        Self {
            settings: Arc::clone(tenant),
            backends: (tenant.mode == Mode::Passthrough).then(|| filled(Backends::of(tenant), tenant, names)),
            limits: Arc::new(Limits::new(max_connections(tenant), tenant.limits.connection_rate)),
            counters: (0..workers).map(|_| Arc::new(TenantCounters::new(tenant))).collect(),
        }
    }

    /// The same tenant under other settings. What was counted goes on, unless the tenant has changed its mode.
    fn succeed(&self, tenant: &Arc<Tenant>, names: &Names) -> Self {
        if (tenant.mode == Mode::Passthrough) != self.backends.is_some() {
            return Self::new(tenant, self.counters.len(), names);
        }
        self.limits.change(max_connections(tenant), tenant.limits.connection_rate);
        Self {
            settings: Arc::clone(tenant),
            backends: self.backends.as_ref().map(|backends| match self.has_same_backends(tenant) {
                true => Arc::clone(backends),
                false => filled(backends.succeed(tenant), tenant, names),
            }),
            limits: Arc::clone(&self.limits),
            counters: self.counters.clone(),
        }
    }

    /// Whether nothing that is kept about backends depends on what has changed. Probes depend on more.
    fn has_same_backends(&self, tenant: &Tenant) -> bool {
        let same = |settings: &Tenant| settings.backends == tenant.backends && settings.balance == tenant.balance;
        same(&self.settings) && [&*self.settings, tenant].iter().all(|settings| settings.health_check.is_none())
    }
}

/// A name that another tenant has, too, is known already.
fn filled(backends: Backends, tenant: &Tenant, names: &Names) -> Arc<Backends> {
    names.fill(&backends, tenant);
    Arc::new(backends)
}

fn new_sources(listener: &Listener) -> Option<Arc<Sources>> {
    listener.per_source.map(|_| Arc::new(Sources::new()))
}

/// Connections of Terminate tenants are not the router's for long; their terminators count them.
fn max_connections(tenant: &Tenant) -> Option<u32> {
    tenant.limits.max_connections.filter(|_| tenant.mode == Mode::Passthrough)
}

/// The policy in force, for those who are not workers. Workers are told of each change and keep their own.
#[derive(Debug)]
pub struct LivePolicy(watch::Sender<Arc<Policy>>);

impl LivePolicy {
    pub(super) fn new(first: Policy) -> Self {
        Self(watch::Sender::new(Arc::new(first)))
    }

    /// The policy of this moment.
    pub fn current(&self) -> Arc<Policy> {
        self.0.borrow().clone()
    }

    /// Tells of each change.
    pub fn follow(&self) -> watch::Receiver<Arc<Policy>> {
        self.0.subscribe()
    }

    pub(super) fn replace(&self, next: Arc<Policy>) {
        self.0.send_replace(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::outcome::ConnectionOutcome;
    use crate::routing::{Decision, Question};

    fn config(tenants: &[&str]) -> Config {
        let tenants = tenants.join("\n  - ");
        let text = format!("listeners: [{{ name: tls, address: \"127.0.0.1:1\" }}]\ntenants:\n  - {tenants}\n");
        Config::from_yaml(&text).unwrap()
    }

    const A: &str =
        r#"{ name: a, hostnames: ["a.example"], mode: Passthrough, backends: [{ address: "127.0.0.1:1" }] }"#;
    const B: &str = r#"{ name: b, hostnames: ["b.example"], mode: Terminate, tls: { certificates: [{ secretDir: /b }] }, backends: [{ address: "127.0.0.1:2" }] }"#;

    fn routes(policy: &Policy, name: &str) -> bool {
        let listener = &policy.config.listeners[0];
        let question = Question { listener, client: [127, 0, 0, 1].into(), server_name: Some(name) };
        !matches!(policy.routing.decide(&policy.config, question), Decision::Reject(_))
    }

    #[tokio::test]
    async fn what_stays_is_taken_over() {
        let first = Policy::new(config(&[A, B]), 2);
        first.tenants[0].counters[1].ended(ConnectionOutcome::Ok);
        let changed = A.replace("a.example", "aa.example");
        let next = first.succeed(config(&[B, &changed]));
        assert!(Arc::ptr_eq(&first.tenants[1], &next.tenants[0]));
        assert!(!Arc::ptr_eq(&first.tenants[0], &next.tenants[1]));
        assert_eq!(next.tenants[1].counters[1].outcomes(ConnectionOutcome::Ok), 1);
        let backends = |policy: &Policy, tenant: usize| policy.tenants[tenant].backends.clone().unwrap();
        assert!(Arc::ptr_eq(&backends(&first, 0), &backends(&next, 1)));
        let moved = next.succeed(config(&[&changed.replace(":1", ":3")]));
        assert!(!Arc::ptr_eq(&backends(&next, 1), &backends(&moved, 0)));
        assert!(Arc::ptr_eq(&first.permits[0], &next.permits[0]));
        assert!(routes(&next, "aa.example") && !routes(&next, "a.example"));
    }

    #[tokio::test]
    async fn what_sources_use_is_known_as_long_as_it_has_a_bound() {
        let bounded = |bounds: &str| {
            let text = format!("listeners: [{{ name: tls, address: \"127.0.0.1:1\"{bounds} }}]\ntenants:\n  - {A}\n");
            Config::from_yaml(&text).unwrap()
        };
        let first = Policy::new(bounded(", perSource: { maxConnections: 1 }"), 1);
        let next = first.succeed(bounded(", perSource: { connectionRate: 5, ipv4Prefix: 24 }"));
        assert!(Arc::ptr_eq(first.sources[0].as_ref().unwrap(), next.sources[0].as_ref().unwrap()));
        let without = next.succeed(bounded(""));
        assert!(without.sources[0].is_none());
        let again = without.succeed(bounded(", perSource: { maxConnections: 1 }"));
        assert!(again.sources[0].is_some());
    }

    #[tokio::test]
    async fn a_tenant_that_changes_its_mode_begins_anew() {
        let first = Policy::new(config(&[A]), 1);
        let terminated = B.replace("name: b", "name: a");
        let next = first.succeed(config(&[&terminated]));
        assert!(next.tenants[0].backends.is_none());
        assert!(!Arc::ptr_eq(&first.tenants[0].counters[0], &next.tenants[0].counters[0]));
    }
}
