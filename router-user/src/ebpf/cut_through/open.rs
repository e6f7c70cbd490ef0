//! From the maps of an object to what decides, switches and collects.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::channel;

use aya::Ebpf;
use aya::maps::{HashMap, Map, PerCpuArray, RingBuf};
use router_common::cut_through::{DIALS, EVENTS, FLOWS, KEYS, NOTES, SIGHTINGS, VERDICTS};

use super::adopt::{adopt, find_flows};
use super::collector::Collector;
use super::layouts::OtherLayout;
use super::leaving::Leaving;
use super::notes::Notes;
use super::ports::Ports;
use super::shared::{Maps, State};
use super::table::FlowTable;
use super::{CutThrough, Unavailable};

/// Takes the maps of `object`, whose table has `places`, and adopts the flows that are in them; `others` keep
/// their ports. The collector is the caller's to run.
pub(super) fn open(
    object: &mut Ebpf,
    places: u32,
    others: Vec<OtherLayout>,
) -> Result<(CutThrough, Collector), Unavailable> {
    let mut take = |name: &str| object.take_map(name).ok_or_else(|| Unavailable::Object(format!("no map {name}")));
    let (keys, flows, sightings, dials) = (take(KEYS)?, take(FLOWS)?, take(SIGHTINGS)?, take(DIALS)?);
    let (events, verdicts, notes) = (take(EVENTS)?, take(VERDICTS)?, take(NOTES)?);

    let failed = |operation: &'static str| move |error| Unavailable::of_call(operation, error);
    let table =
        FlowTable::map(descriptor(&flows)?.as_fd(), places as usize).map_err(failed("map the table of flows"))?;
    let maps = Maps { keys: descriptor(&keys)?, sightings: descriptor(&sightings)?, dials: descriptor(&dials)? };
    let keys = HashMap::try_from(keys).map_err(|error| Unavailable::of_map("open the keys", error))?;
    let found = find_flows(&keys, &table).map_err(|error| Unavailable::of_map("read the keys", error))?;
    let mut used: HashSet<_> = found.iter().map(|flow| (flow.backend, flow.port)).collect();
    used.extend(others.iter().flat_map(OtherLayout::ports));
    let used_places: HashSet<_> = found.iter().map(|flow| flow.place).collect();
    let free = (0..places).filter(|place| !used_places.contains(place)).collect();
    let ports = Ports::new(&used);
    let (to_collector, arrivals) = channel();
    let leaving = Leaving::not_yet().map_err(failed("make an eventfd"))?;
    let state = Arc::new(State::new(table, maps, ports, free, found.len() as u64, to_collector, leaving));
    for flow in found {
        adopt(&state, flow);
    }
    let events = RingBuf::try_from(events).map_err(|error| Unavailable::of_map("open the ring of events", error))?;
    let notes = Notes::new(notes).map_err(|error| Unavailable::of_map("open the notes", error))?;
    let collector = Collector::new(state.clone(), events, arrivals, notes, others);
    let verdicts = PerCpuArray::try_from(verdicts).map_err(|error| Unavailable::of_map("open the verdicts", error))?;
    Ok((CutThrough { state, verdicts }, collector))
}

pub(super) fn descriptor(map: &Map) -> Result<OwnedFd, Unavailable> {
    let (Map::HashMap(data) | Map::LruHashMap(data) | Map::Array(data)) = map else {
        return Err(Unavailable::Object("a map of another type".to_owned()));
    };
    data.fd().as_fd().try_clone_to_owned().map_err(|error| Unavailable::of_call("duplicate a map", error))
}
