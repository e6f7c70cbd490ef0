//! One worker's view of the policy in force: the same tenants and listeners, with what belongs to this worker alone.
//! Replaced in one step by a reload; connections keep what they began with.

use std::rc::Rc;
use std::sync::Arc;

use config::{Listener, Mode, PerSource, Startup};

use super::peek::Peeker;
use super::permits::Permits;
use super::policy::{Policy, TenantState};
use super::sources::Sources;
use super::terminator_link::{Asking, TerminatorLink};
use crate::demand::demand_socket;
use crate::metrics::TenantCounters;

/// The policy as a worker uses it.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) policy: Arc<Policy>,
    /// One per listener, in the order of the configuration.
    peekers: Vec<Rc<Peeker>>,
    /// One per tenant, in the order of the configuration.
    pub(super) destinations: Vec<Rc<Destination>>,
}

/// A tenant as a worker uses it.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) tenant: Arc<TenantState>,
    /// This worker's.
    pub(super) counters: Arc<TenantCounters>,
    /// `None` under Passthrough.
    pub(super) terminator: Option<TerminatorLink>,
}

impl Site {
    /// The view of worker `worker`. What has not changed since `before` is taken over from there.
    pub(super) fn new(policy: Arc<Policy>, worker: usize, before: Option<&Self>) -> Self {
        let config = &policy.config;
        let known = before.map(|before| &before.policy.config.listeners[..]).unwrap_or_default();
        let peekers = config.listeners.iter().map(|listener| {
            let same = known.iter().position(|known| {
                known.name == listener.name && known.client_hello.max_bytes == listener.client_hello.max_bytes
            });
            match before.zip(same) {
                Some((before, same)) => Rc::clone(&before.peekers[same]),
                None => Rc::new(Peeker::new(listener.client_hello.max_bytes, config.access_log.is_some())),
            }
        });
        let known = before.into_iter().flat_map(|before| &before.destinations);
        let known: hashbrown::HashMap<_, _> = known.map(|known| (Arc::as_ptr(&known.tenant), known)).collect();
        let destinations = policy.tenants.iter().map(|tenant| match known.get(&Arc::as_ptr(tenant)) {
            Some(same) => Rc::clone(same),
            None => Rc::new(Destination::new(Arc::clone(tenant), worker, &policy)),
        });
        Self { peekers: peekers.collect(), destinations: destinations.collect(), policy }
    }

    fn listener(&self, name: &str) -> Option<usize> {
        self.policy.config.listeners.iter().position(|listener| listener.name == name)
    }
}

impl Destination {
    fn new(tenant: Arc<TenantState>, worker: usize, policy: &Policy) -> Self {
        let config = &policy.config;
        let terminator = match &tenant.settings.mode {
            Mode::Passthrough => None,
            Mode::Terminate(terminate) => {
                let name = &tenant.settings.name;
                let demand = match terminate.startup {
                    Startup::Always => None,
                    Startup::OnDemand { .. } => Some(Asking::new(demand_socket(&config.runtime_dir), name)),
                };
                let waits = Arc::clone(&tenant.counters[worker].handoff_waits);
                let (names, settings) = (Arc::clone(&policy.names), Arc::clone(&tenant.settings));
                Some(TerminatorLink::new(config.handoff_socket(name), demand, waits, names, settings))
            }
        };
        Self { counters: Arc::clone(&tenant.counters[worker]), tenant, terminator }
    }
}

/// A listener in the site that it was last part of.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    pub(super) site: Rc<Site>,
    name: Rc<str>,
    index: usize,
}

impl Listening {
    /// The listener `name` of `site`; `None` where it has none of this name.
    pub(super) fn at(site: Rc<Site>, name: Rc<str>) -> Option<Self> {
        let index = site.listener(&name)?;
        Some(Self { site, name, index })
    }

    /// The same listener in the site in force, as long as it is part of that.
    pub(super) fn refresh(&mut self, in_force: Rc<Site>) {
        if !Rc::ptr_eq(&in_force, &self.site)
            && let Some(index) = in_force.listener(&self.name)
        {
            (self.site, self.index) = (in_force, index);
        }
    }

    pub(super) fn name(&self) -> &Rc<str> {
        &self.name
    }

    pub(super) fn settings(&self) -> &Listener {
        &self.site.policy.config.listeners[self.index]
    }

    pub(super) fn permits(&self) -> Arc<Permits> {
        Arc::clone(&self.site.policy.permits[self.index])
    }

    /// What a source may use, and what each one uses.
    pub(super) fn sources(&self) -> Option<(&PerSource, &Arc<Sources>)> {
        self.settings().per_source.as_ref().zip(self.site.policy.sources[self.index].as_ref())
    }

    pub(super) fn peeker(&self) -> &Peeker {
        &self.site.peekers[self.index]
    }
}
