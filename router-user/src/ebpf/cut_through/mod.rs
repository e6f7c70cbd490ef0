//! Cut-through: after the routing decision the kernel's programs translate and forward the packets between client and
//! backend, and neither this process nor the local TCP touches them. Decides per connection, switches, accompanies
//! flows to their end, and takes over those that a former process left.

mod adopt;
mod attach;
mod collector;
mod eligibility;
mod ending;
mod fallback;
mod flows;
mod install;
mod ports;
mod raw;
mod record;
mod shared;

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

use aya::Ebpf;
use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use router_common::cut_through::{DIALS, EVENTS, FLOWS, KEYS, LifeStage, MAX_FLOWS, SET, SIGHTINGS, VERDICTS, Verdict};
use tracing::info;

pub use self::collector::{AdoptedEnd, OnAdoptedEnd};
pub use self::fallback::Fallback;
pub use self::flows::{EndSender, FlowEnd, FlowOutcome, Place};
pub use self::install::{Attempt, Candidate, Dialled, NotCut};
pub use self::record::Identity;

use self::adopt::find_flows;
use self::collector::Collector;
use self::ports::Ports;
use self::raw::FlowTable;
use self::shared::{Maps, State};
use super::{Pins, Unavailable, load};

/// What became of `dataPath: CutThrough`.
#[derive(Debug)]
pub enum CuttingThrough {
    /// The configuration does not ask for it.
    NotConfigured,
    /// The kernel carries connections.
    Running(CutThrough),
    /// All connections are relayed.
    Unavailable(Unavailable),
}

/// The programs are attached, and connections may be switched.
pub struct CutThrough {
    state: Arc<State>,
    verdicts: PerCpuArray<MapData, u64>,
}

/// Programs and maps that exist, before flows are looked for.
pub struct Loaded {
    object: Ebpf,
    interfaces: Vec<String>,
}

impl Loaded {
    /// Makes or opens the pinned maps, has the kernel check the programs and attaches them. Needs the privileges of the
    /// start; what comes later needs CAP_NET_ADMIN.
    pub fn load(runtime_dir: &Path) -> Result<Self, Unavailable> {
        let folder = Pins::find_or_mount(runtime_dir)?.folder(&SET)?;
        let mut object = load(&SET, |loader| {
            for map in SET.maps {
                loader.map_pin_path(map, folder.join(map));
            }
        })?;
        let interfaces = attach::attach(&mut object, &folder)?;
        Ok(Self { object, interfaces })
    }

    /// Adopts what a former process left, and starts the thread that accompanies flows.
    pub fn start(mut self, on_adopted_end: OnAdoptedEnd) -> Result<CutThrough, Unavailable> {
        let map_of_object = |object: &mut Ebpf, name: &str| {
            object.take_map(name).ok_or_else(|| Unavailable::Object(format!("no map {name}")))
        };
        let keys = map_of_object(&mut self.object, KEYS)?;
        let flows = map_of_object(&mut self.object, FLOWS)?;
        let sightings = map_of_object(&mut self.object, SIGHTINGS)?;
        let dials = map_of_object(&mut self.object, DIALS)?;
        let events = map_of_object(&mut self.object, EVENTS)?;
        let verdicts = map_of_object(&mut self.object, VERDICTS)?;

        let failed = |operation: &'static str| move |error| Unavailable::of_call(operation, error);
        let flows = descriptor(&flows)?;
        let table = FlowTable::map(flows.as_fd(), MAX_FLOWS as usize).map_err(failed("map the table of flows"))?;
        let key_descriptor = descriptor(&keys)?;
        let keys = aya::maps::HashMap::try_from(keys).map_err(|error| Unavailable::of_map("open the keys", error))?;
        let found = find_flows(&keys, &table).map_err(|error| Unavailable::of_map("read the keys", error))?;
        let used: HashSet<_> = found.iter().map(|flow| (flow.backend, flow.port)).collect();
        let places: HashSet<_> = found.iter().map(|flow| flow.place).collect();
        let free = (0..MAX_FLOWS).filter(|place| !places.contains(place)).collect();
        let ports = Ports::new(&used);
        if ports.per_backend() == 0 {
            let message = "no port is outside of net.ipv4.ip_local_port_range or in net.ipv4.ip_local_reserved_ports";
            return Err(Unavailable::of_call(message, std::io::Error::from_raw_os_error(libc::ENOSPC)));
        }
        let maps = Maps { keys: key_descriptor, sightings: descriptor(&sightings)?, dials: descriptor(&dials)? };

        let (to_collector, arrivals) = channel();
        let state = Arc::new(State::new(table, maps, ports, free, found.len() as u64, to_collector));
        let adopted = found.len();
        for flow in found {
            adopt::adopt(&state, flow);
        }
        let events =
            RingBuf::try_from(events).map_err(|error| Unavailable::of_map("open the ring of events", error))?;
        let collector = Collector::new(state.clone(), events, arrivals, on_adopted_end);
        let thread = std::thread::Builder::new().name("cut-through".to_owned());
        thread.spawn(move || collector.run()).map_err(failed("start a thread"))?;
        let verdicts =
            PerCpuArray::try_from(verdicts).map_err(|error| Unavailable::of_map("open the verdicts", error))?;
        info!(interfaces = self.interfaces.join(","), ports = state.ports.per_backend(), adopted, "cut-through");
        Ok(CutThrough { state, verdicts })
    }
}

impl CutThrough {
    /// Flows that have a place now, and how many there can be.
    pub fn fill(&self) -> (u64, u64) {
        (self.state.flows.load(Ordering::Relaxed), u64::from(MAX_FLOWS))
    }

    /// Flows whose sockets still exist: the backend has not acknowledged the hello yet.
    pub fn opening(&self) -> u64 {
        self.state.opening.load(Ordering::Relaxed)
    }

    /// Packets by what became of them, since the maps were made.
    pub fn verdicts(&self) -> Vec<(Verdict, u64)> {
        let sum = |verdict: Verdict| self.verdicts.get(&(verdict as u32), 0).map_or(0, |values| values.iter().sum());
        Verdict::ALL.into_iter().map(|verdict| (verdict, sum(verdict))).collect()
    }

    /// Whether the kernel carries the flow alone, so that the process may leave.
    pub fn is_alone(&self, place: Place) -> bool {
        self.state.table.stage(place.index) == LifeStage::Carried as u32
    }
}

impl std::fmt::Debug for CutThrough {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CutThrough").field("fill", &self.fill()).finish_non_exhaustive()
    }
}

fn descriptor(map: &Map) -> Result<OwnedFd, Unavailable> {
    let (Map::HashMap(data) | Map::LruHashMap(data) | Map::Array(data)) = map else {
        return Err(Unavailable::Object("a map of another type".to_owned()));
    };
    data.fd().as_fd().try_clone_to_owned().map_err(|error| Unavailable::of_call("duplicate a map", error))
}

#[cfg(test)]
mod tests {
    use aya::programs::SchedClassifier;
    use nix::unistd::Uid;
    use router_common::cut_through::{PROGRAM, PROGRAM_OUT};

    use super::*;
    use crate::ebpf::load_program;

    #[test]
    fn the_kernels_verifier_accepts_both_programs() {
        if !Uid::effective().is_root() {
            assert!(std::env::var_os("CI").is_none(), "CI has to run this as root");
            println!("skipped: only root may load eBPF programs");
            return;
        }
        let mut object = load(&SET, |_| {}).unwrap();
        for program in [PROGRAM, PROGRAM_OUT] {
            if let Err(error) = load_program(&mut object, program, SchedClassifier::load) {
                panic!("{error}\n{error:?}");
            }
        }
    }
}
