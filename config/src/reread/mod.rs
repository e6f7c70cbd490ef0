//! Reads the next version of a configuration file: tenants whose lines have not changed are taken over as they are, so
//! that a change of a few among 100,000 takes no longer than finding them. The result is that of reading it as a whole;
//! what is not certain to be, and every text that is wrong, is left to that.

mod items;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

pub(crate) use self::items::Items;
use crate::error::LoadError;
use crate::hostname::HostnamePattern;
use crate::model::{Config, Fallback, Identity, Listener, Mode, Tenant};
use crate::uid::allot;
use crate::yaml::MAX_TEXT_BYTES;

impl Config {
    /// Checks the text of the file at `path`, of which `former` is the version that this configuration was read from.
    pub fn of_next_version(&self, former: &str, path: &Path, text: &str) -> Result<Self, LoadError> {
        self.reread(former, text).map_or_else(|| Self::of_file(path, text), Ok)
    }

    /// `None` when the text has to be read as a whole.
    fn reread(&self, former: &str, text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let (before, after) = (Items::of(former)?, Items::of(text)?);
        if !before.has_same_surroundings(&after) || before.list.len() != self.tenants.len() {
            return None;
        }
        let known: HashMap<&str, &Arc<Tenant>> = before.list.into_iter().zip(&self.tenants).collect();
        let mut changed: Vec<&str> = after.list.iter().copied().filter(|item| !known.contains_key(item)).collect();
        let targets: HashSet<*const Tenant> = self.fallback_targets().map(Arc::as_ptr).collect();
        // The listeners, which are read again, may name them.
        changed.extend(
            after.list.iter().filter(|item| known.get(*item).is_some_and(|t| targets.contains(&Arc::as_ptr(t)))),
        );
        if changed.is_empty() {
            changed.extend(after.list.first());
        }
        let read = Self::from_yaml(&after.text_of(&changed)).ok()?;
        if read.tenants.len() != changed.len() {
            return None;
        }
        let fresh: HashMap<&str, &Arc<Tenant>> = changed.into_iter().zip(&read.tenants).collect();
        let tenants =
            after.list.iter().map(|item| known.get(item).or_else(|| fresh.get(item)).copied().map(Arc::clone));
        let mut next = Self { tenants: tenants.collect::<Option<_>>()?, listeners: Vec::new(), ..read.clone() };
        next.listeners = next.with_places_of(&read)?;
        next.claims_are_unique().then_some(())?;
        next.allot_uids()?;
        (next.probed().next().is_none() || next.prober_identity().is_some()).then_some(())?;
        Some(next)
    }

    fn fallback_targets(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        let fallbacks = self.listeners.iter().flat_map(|listener| [listener.on_no_server_name, listener.on_unmatched]);
        fallbacks.filter_map(|fallback| match fallback {
            Fallback::Tenant(index) => self.tenants.get(index),
            Fallback::Reject => None,
        })
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
        let router = self.known_router_uid();
        let taken: HashSet<u32> = self.tenants.iter().filter_map(|tenant| own_uid(tenant)).chain(router).collect();
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
