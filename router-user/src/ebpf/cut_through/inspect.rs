//! What the kernel carries, for a person who asks or who wants it to end, whether a router runs or not.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData};
use router_common::cut_through::{FLOWS, FlowKey, KEYS, LifeStage, MAX_FLOWS, NOTES, Note, SET};

use super::adopt::{Found, find_flows};
use super::collector::monotonic_ns;
use super::note::Known;
use super::open::open;
use super::ownership::Ownership;
use super::record::{Identity, delivered};
use super::table::FlowTable;
use crate::ebpf::{Pins, Unavailable, load};

/// A connection that the programs alone carry.
#[derive(Clone, Debug)]
pub struct CarriedFlow {
    /// Who it is.
    pub identity: Identity,
    /// What was written down of it.
    pub known: Option<Known>,
    /// The client.
    pub client: SocketAddr,
    /// The backend.
    pub backend: SocketAddr,
    /// Bytes that the backend has got.
    pub client_to_backend: u64,
    /// Bytes that the client has got.
    pub backend_to_client: u64,
    /// Since either end has sent anything but acknowledgements.
    pub silent: Duration,
    place: u32,
}

/// All of a runtime folder. Needs root.
pub fn list(runtime_dir: &Path) -> Result<Vec<CarriedFlow>, Unavailable> {
    match pinned(runtime_dir) {
        Some(folder) => Ok(look(&maps(&folder)?)?.1),
        None => Ok(Vec::new()),
    }
}

/// Resets both ends of those that are chosen, by the router that accompanies them, or here when none does; says how many.
/// Needs root.
pub fn end(runtime_dir: &Path, chosen: impl Fn(&CarriedFlow) -> bool) -> Result<usize, Unavailable> {
    let Some(folder) = pinned(runtime_dir) else { return Ok(0) };
    let ownership = Ownership::of(runtime_dir)?;
    let mut object = maps(&folder)?;
    let (table, flows) = look(&object)?;
    let chosen: Vec<_> = flows.into_iter().filter(chosen).map(|flow| flow.place).collect();
    for place in &chosen {
        table.set_stage(*place, LifeStage::Ending as u16);
    }
    let ending = || chosen.iter().any(|place| table.stage(*place) == LifeStage::Ending as u16);
    let deadline = Instant::now() + PATIENCE;
    let mut accompany: Box<dyn FnMut()> = match ownership {
        Ownership::Held(_) => {
            let (_, mut collector) = open(&mut object, MAX_FLOWS, Vec::new())?;
            Box::new(move || collector.turn(PAUSE, None))
        }
        Ownership::Awaited(_) => Box::new(|| thread::sleep(PAUSE)),
    };
    while ending() {
        if Instant::now() > deadline {
            let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(Unavailable::of_call("wait for the router that has the flows", error));
        }
        accompany();
    }
    Ok(chosen.len())
}

fn pinned(runtime_dir: &Path) -> Option<PathBuf> {
    Pins::find(runtime_dir)?.existing_folder(&SET).filter(|folder| folder.join(KEYS).exists())
}

fn maps(folder: &Path) -> Result<Ebpf, Unavailable> {
    load(&SET, |loader| {
        for map in SET.maps {
            loader.map_pin_path(map, folder.join(map));
        }
    })
}

/// The programs go on meanwhile, so that numbers of one flow may be of different moments.
fn look(object: &Ebpf) -> Result<(FlowTable, Vec<CarriedFlow>), Unavailable> {
    let missing = |name: &str| Unavailable::Object(format!("no map {name}"));
    let keys = object.map(KEYS).ok_or_else(|| missing(KEYS))?;
    let Some(Map::Array(flows)) = object.map(FLOWS) else { return Err(missing(FLOWS)) };
    let table = FlowTable::map(flows.fd().as_fd(), MAX_FLOWS as usize)
        .map_err(|error| Unavailable::of_call("map the table of flows", error))?;
    let failed = |error| Unavailable::of_map("read the keys", error);
    let keys: HashMap<&MapData, FlowKey, u32> = keys.try_into().map_err(failed)?;
    let notes = object.map(NOTES).ok_or_else(|| missing(NOTES))?;
    let notes: HashMap<&MapData, u32, Note> =
        notes.try_into().map_err(|error| Unavailable::of_map("open the notes", error))?;
    let now = monotonic_ns();
    let describe = |found: Found| {
        let record = table.read(found.place);
        let last = record.directions[0].last.max(record.directions[1].last);
        let [client_to_backend, backend_to_client] = delivered(&record);
        let flow = CarriedFlow {
            identity: Identity::of(&record),
            known: notes.get(&found.place, 0).ok().and_then(|note| Known::of_flow(&note, record.generation)),
            client: found.client,
            backend: found.backend,
            client_to_backend,
            backend_to_client,
            silent: Duration::from_nanos(now.saturating_sub(last)),
            place: found.place,
        };
        (record.stage == LifeStage::Carried as u16).then_some(flow)
    };
    let flows = find_flows(&keys, &table).map_err(failed)?.into_iter().filter_map(describe).collect();
    Ok((table, flows))
}

const PAUSE: Duration = Duration::from_millis(50);
/// A router looks once a second.
const PATIENCE: Duration = Duration::from_secs(10);
