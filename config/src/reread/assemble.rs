//! From tenants that were read by themselves, or long ago, to the configuration that reading the whole gives. `None` where
//! there is none, because something is wrong between them.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::hostname::HostnamePattern;
use crate::model::{Config, Fallback, Identity, Listener, Mode, Tenant};
use crate::uid::allot;

impl Config {
    /// This configuration with other tenants, among which are those that its listeners name.
    pub(super) fn assemble(self, tenants: Vec<Arc<Tenant>>) -> Option<Self> {
        let mut next = Self { tenants, listeners: Vec::new(), ..self.clone() };
        next.listeners = next.with_places_of(&self)?;
        next.claims_are_unique().then_some(())?;
        next.allot_uids()?;
        (next.probed().next().is_none() || next.prober_identity().is_some()).then_some(())?;
        Some(next)
    }

    /// The listeners of `read`, whose fallbacks are this configuration's tenants of the same names.
    fn with_places_of(&self, read: &Self) -> Option<Vec<Listener>> {
        let place = |fallback| match fallback {
            Fallback::Reject => Some(Fallback::Reject),
            Fallback::Tenant(index) => {
                let name = &read.tenants.get(index)?.name;
                self.tenants.iter().position(|tenant| tenant.name == *name).map(Fallback::Tenant)
            }
        };
        let listener = |listener: &Listener| {
            let (on_no_server_name, on_unmatched) = (place(listener.on_no_server_name)?, place(listener.on_unmatched)?);
            Some(Listener { on_no_server_name, on_unmatched, ..listener.clone() })
        };
        read.listeners.iter().map(listener).collect()
    }

    /// What no two tenants may have: names, hostnames and uids of their own choice.
    fn claims_are_unique(&self) -> bool {
        let mut names: HashSet<&str> = HashSet::with_capacity(self.tenants.len());
        let mut hostnames: HashSet<&HostnamePattern> = HashSet::with_capacity(self.tenants.len());
        let mut uids = HashSet::new();
        self.tenants.iter().all(|tenant| {
            names.insert(&tenant.name)
                && tenant.hostnames.iter().all(|hostname| hostnames.insert(hostname))
                && own_uid(tenant).is_none_or(|uid| uids.insert(uid))
        })
    }

    /// Gives each tenant without a uid of its own choice the one that the whole of the names says.
    fn allot_uids(&mut self) -> Option<()> {
        if !self.tenants.iter().any(|tenant| wants_uid(tenant)) {
            return Some(());
        }
        let router = self.known_router_uid();
        let taken = self.tenants.iter().filter_map(|tenant| own_uid(tenant)).chain(router).collect();
        let tenants = self.tenants.clone();
        let names = tenants.iter().filter(|tenant| wants_uid(tenant)).map(|tenant| tenant.name.as_str());
        let uids = allot(self.uid_range, &taken, names)?;
        for tenant in &mut self.tenants {
            let Some(&uid) = uids.get(tenant.name.as_str()) else { continue };
            let Mode::Terminate(terminate) = &tenant.mode else { continue };
            if terminate.identity.uid != uid {
                let mut moved = terminate.clone();
                moved.identity = Identity { uid, gid: terminate.sandbox.gid.unwrap_or(uid) };
                Arc::make_mut(tenant).mode = Mode::Terminate(moved);
            }
        }
        Some(())
    }
}

fn own_uid(tenant: &Tenant) -> Option<u32> {
    match &tenant.mode {
        Mode::Terminate(terminate) => terminate.sandbox.uid,
        Mode::Passthrough => None,
    }
}

fn wants_uid(tenant: &Tenant) -> bool {
    matches!(&tenant.mode, Mode::Terminate(terminate) if terminate.sandbox.uid.is_none())
}
