//! Cut-through: after the routing decision the kernel's programs translate and forward the packets between client and
//! backend, and neither this process nor the local TCP touches them. Decides per connection, switches, accompanies
//! flows to their end, and takes over those that a former process left.

mod adopt;
mod attach;
mod barrier;
mod collector;
mod conntrack;
mod eligibility;
mod ending;
mod fallback;
mod flow;
mod flows;
mod inspect;
mod install;
mod layouts;
mod leaving;
mod load;
mod note;
mod notes;
mod open;
mod opening;
mod ownership;
mod ports;
mod raw;
mod record;
mod self_test;
mod shared;
mod table;
#[cfg(test)]
mod test_connections;
mod watch;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use aya::maps::{MapData, PerCpuArray};
use router_common::cut_through::{LifeStage, Verdict};

pub use self::fallback::Fallback;
pub use self::flows::{Adopted, AdoptedEnd, AdoptedFlow, EndSender, Fate, FlowEnd, FlowOutcome, Occupied, Place};
pub use self::inspect::{CarriedFlow, end, list};
pub use self::install::{Attempt, Candidate, Dialled, NotCut};
pub use self::load::{Loaded, Trust};
pub use self::note::Known;
pub use self::record::{Described, Identity};

use self::shared::State;
use super::Unavailable;

/// What became of `dataPath: CutThrough` or `Auto`.
#[derive(Debug)]
pub enum CuttingThrough {
    /// The configuration does not ask for it. Flows of a former process go on.
    NotConfigured(Option<Carrier>),
    /// It would be used, but no connection can be carried: clients or backends are all on this host.
    OfNoUse(Option<Carrier>),
    /// The kernel carries connections.
    Running(Carrier),
    /// All connections are relayed.
    Unavailable(Unavailable, Option<Carrier>),
}

impl CuttingThrough {
    /// What carries flows, be they a former process's.
    pub fn carrier(&self) -> Option<&CutThrough> {
        match self {
            Self::Running(carrier) => Some(carrier),
            Self::NotConfigured(former) | Self::OfNoUse(former) | Self::Unavailable(_, former) => former.as_ref(),
        }
        .and_then(Carrier::get)
    }
}

/// Empty while another process has the flows.
#[derive(Clone, Debug, Default)]
pub struct Carrier(Arc<OnceLock<CutThrough>>);

impl Carrier {
    /// What carries flows.
    pub fn get(&self) -> Option<&CutThrough> {
        self.0.get()
    }
}

/// The programs are attached, and connections may be switched.
pub struct CutThrough {
    state: Arc<State>,
    verdicts: PerCpuArray<MapData, u64>,
}

impl CutThrough {
    /// Flows that have a place now, and how many there can be.
    pub fn fill(&self) -> (u64, u64) {
        (self.state.flows.load(Ordering::Relaxed), self.state.table.places() as u64)
    }

    /// Flows whose sockets still exist: the backend has not acknowledged the hello yet.
    pub fn opening(&self) -> u64 {
        self.state.opening.load(Ordering::Relaxed)
    }

    /// Flows that another version's programs carry to their ends.
    pub fn of_other_versions(&self) -> u64 {
        self.state.others.load(Ordering::Relaxed)
    }

    /// Packets by what became of them, since the maps were made.
    pub fn verdicts(&self) -> Vec<(Verdict, u64)> {
        let sum = |verdict: Verdict| self.verdicts.get(&(verdict as u32), 0).map_or(0, |values| values.iter().sum());
        Verdict::ALL.into_iter().map(|verdict| (verdict, sum(verdict))).collect()
    }

    /// No new flows; the next process may have all when the kernel carries them alone.
    pub fn leave(&self) {
        self.state.leaving.begin();
    }

    /// Resolves when it has, with all that it has to know. Cancel-safe.
    pub async fn has_left(&self) {
        self.state.leaving.ended().await;
    }

    /// Whether the kernel carries the flow alone, so that the process may leave.
    pub fn is_alone(&self, place: Place) -> bool {
        self.state.table.stage(place.index) == LifeStage::Carried as u16
    }
}

impl std::fmt::Debug for CutThrough {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CutThrough").field("fill", &self.fill()).finish_non_exhaustive()
    }
}
