//! One worker's view of the policy in force: the same tenants and listeners, with what belongs to this worker alone.
//! Replaced in one step by a reload; connections keep what they began with.

use std::rc::Rc;
use std::sync::Arc;

use config::{Listener, Mode, PerSource, Startup};
use hashbrown::HashMap;

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
    worker: usize,
    /// One per listener, in the order of the configuration.
    peekers: Vec<Rc<Peeker>>,
    /// By the places of their tenants in the configuration.
    terminators: HashMap<usize, Rc<TerminatorLink>>,
}

/// A tenant as a worker uses it.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) tenant: Arc<TenantState>,
    /// This worker's.
    pub(super) counters: Arc<TenantCounters>,
    /// `None` under Passthrough.
    pub(super) terminator: Option<Rc<TerminatorLink>>,
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
        let state = |site: &Self, place: usize| Arc::as_ptr(&site.policy.tenants[place]);
        let known = before.into_iter().flat_map(|before| {
            before.terminators.iter().map(move |(place, terminator)| (state(before, *place), terminator))
        });
        let known: HashMap<_, _> = known.collect();
        let terminators = policy.terminated().filter_map(|(place, tenant)| {
            let known = known.get(&Arc::as_ptr(tenant)).map(|same| Rc::clone(same));
            Some((place, known.or_else(|| terminator(tenant, worker, &policy).map(Rc::new))?))
        });
        Self { worker, peekers: peekers.collect(), terminators: terminators.collect(), policy }
    }

    fn listener(&self, name: &str) -> Option<usize> {
        self.policy.config.listeners.iter().position(|listener| listener.name == name)
    }

    /// The tenant at this place in the configuration.
    pub(super) fn destination(&self, place: usize) -> Destination {
        let tenant = Arc::clone(&self.policy.tenants[place]);
        let counters = Arc::clone(&tenant.counters[self.worker]);
        Destination { tenant, counters, terminator: self.terminators.get(&place).cloned() }
    }
}

/// `None` under Passthrough.
fn terminator(tenant: &TenantState, worker: usize, policy: &Policy) -> Option<TerminatorLink> {
    let Mode::Terminate(terminate) = &tenant.settings.mode else { return None };
    let (config, name) = (&policy.config, &tenant.settings.name);
    let demand = match terminate.startup {
        Startup::Always => None,
        Startup::OnDemand { .. } => Some(Asking::new(demand_socket(&config.runtime_dir), name)),
    };
    let waits = Arc::clone(&tenant.counters[worker].handoff_waits);
    let (names, settings) = (Arc::clone(&policy.names), Arc::clone(&tenant.settings));
    Some(TerminatorLink::new(config.handoff_socket(name), demand, waits, names, settings))
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
