//! What the names of backends stand for. One thread asks, by TTL; everybody else reads what is known. Decides nothing
//! about backends: `connection::Backends` does, here and in the terminators, which cannot ask themselves.

mod announce;
mod answer;
mod keeper;
mod lookup;
mod system;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ::connection::handoff::ResolvedName;
use ::connection::{Backends, label_set};
use config::{BackendName, Tenant};
use tokio::sync::watch;

pub(crate) use self::keeper::spawn;
pub(crate) use self::lookup::{Looked, look_up_all};

label_set! {
    /// How a question ended: label `outcome` of `sni_router_name_resolutions_total`.
    pub enum Resolution {
        /// There are addresses.
        Ok = "ok",
        /// The name does not exist, or has no address.
        None = "none",
        /// No answer, or none that can be used: what was known before holds.
        Failed = "failed",
    }
}

/// What is known at a time.
#[derive(Debug)]
pub struct Names {
    /// The lock is held for a look at it, and by the one who writes for as long as it takes to replace an entry.
    known: RwLock<BTreeMap<BackendName, Known>>,
    changed: watch::Sender<()>,
    counts: [AtomicU64; Resolution::ALL.len()],
}

/// One name.
#[derive(Clone, Debug)]
struct Known {
    /// `None` until the first answer.
    addresses: Option<Arc<[IpAddr]>>,
    last: Resolution,
}

/// One name, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameState {
    /// As it is configured.
    pub name: String,
    /// How many addresses are in use.
    pub addresses: usize,
    /// Whether the last question was answered.
    pub answered: bool,
}

impl Default for Names {
    fn default() -> Self {
        Self { known: RwLock::default(), changed: watch::Sender::new(()), counts: Default::default() }
    }
}

impl Names {
    /// Tells `backends` of a tenant what is known of their names already.
    pub(crate) fn fill(&self, backends: &Backends, tenant: &Tenant) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for name in names(tenant) {
            if let Some(addresses) = known.get(name).and_then(|known| known.addresses.as_ref()) {
                backends.resolve(name, addresses);
            }
        }
    }

    /// What is known of a tenant's names, each once.
    pub(crate) fn of(&self, tenant: &Tenant) -> Vec<ResolvedName> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let names: HashSet<&BackendName> = names(tenant).collect();
        let resolved = |name: &BackendName| {
            let addresses = known.get(name)?.addresses.as_ref()?.to_vec();
            Some(ResolvedName { name: name.to_string(), addresses })
        };
        names.into_iter().filter_map(resolved).collect()
    }

    /// Every name's state, in their order.
    pub fn states(&self) -> Vec<NameState> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let state = |(name, known): (&BackendName, &Known)| NameState {
            name: name.to_string(),
            addresses: known.addresses.as_ref().map_or(0, |addresses| addresses.len()),
            answered: known.last != Resolution::Failed,
        };
        known.iter().map(state).collect()
    }

    /// How often a question ended so.
    pub fn total(&self, outcome: Resolution) -> u64 {
        self.counts[outcome as usize].load(Ordering::Relaxed)
    }

    /// Tells of each answer that is another than before.
    fn follow(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes note of how a question ended; `addresses` are those that hold from now on.
    fn learn(&self, name: &BackendName, outcome: Resolution, addresses: Option<&Arc<[IpAddr]>>) {
        self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
        let next = Known { addresses: addresses.cloned(), last: outcome };
        let before = {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(name.clone(), next)
        };
        if before.and_then(|before| before.addresses) != addresses.cloned() {
            self.changed.send_replace(());
        }
    }

    fn addresses(&self, name: &BackendName) -> Option<Arc<[IpAddr]>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name)?.addresses.clone()
    }

    fn keep_only(&self, wanted: impl Fn(&BackendName) -> bool) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).retain(|name, _| wanted(name));
    }
}

/// The names among a tenant's backends.
fn names(tenant: &Tenant) -> impl Iterator<Item = &BackendName> {
    tenant.backends.iter().filter_map(|target| target.address.name())
}
