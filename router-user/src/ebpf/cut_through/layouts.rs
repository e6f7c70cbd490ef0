//! What routers with another layout of the maps left: their programs and links stay until their flows have ended, of which
//! the notes beside their records tell. What has no flows any more is removed.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use router_common::cut_through::{BACKEND, CLIENT, FLOWS, FlowKey, KEYS, SET};
use tracing::{info, warn};

use super::adopt::ends;
use super::attach;
use super::flows::AdoptedEnd;
use super::note::Known;
use super::notes::Notes;
use super::ownership::Ownership;
use super::raw;
use super::record::Identity;
use super::table::{Head, end_of};
use crate::ebpf::raw::{detach_link, open_pinned};
use crate::ebpf::{Pins, Unavailable};

/// Programs of one layout, and how they are taken off their interfaces.
#[derive(Debug)]
pub(super) struct Programs {
    layout: u32,
    links: Vec<OwnedFd>,
}

/// The flows of a layout that is not ours.
pub(super) struct OtherLayout {
    programs: Programs,
    keys: HashMap<MapData, FlowKey, u32>,
    flows: MapData,
    record_bytes: u32,
    /// `None` in layouts that had none.
    notes: Option<Notes>,
}

/// What has come to an end since the last look.
pub(super) struct Swept {
    /// Backends, and our ports towards them.
    pub(super) freed: Vec<(SocketAddr, u16)>,
    /// Of flows with notes.
    pub(super) ends: Vec<AdoptedEnd>,
    /// Whether flows are left; without, the programs are off their interfaces.
    pub(super) is_left: bool,
}

/// Those that still have flows; the others are gone afterwards, unless another process may be about to use them.
pub(super) fn others(pins: &Pins, ownership: &Ownership) -> Vec<OtherLayout> {
    let ours = matches!(ownership, Ownership::Held(_));
    let folders = pins.other_layouts(&SET).unwrap_or_default();
    let look = |folder: PathBuf| match OtherLayout::open(&folder) {
        Ok(other) if ours && other.is_empty() => {
            remove(&folder, &other.programs);
            None
        }
        Ok(other) => {
            info!(folder = %folder.display(), flows = other.ports().len(), "cut-through: another version's flows go on");
            Some(other)
        }
        Err(error) => {
            warn!(folder = %folder.display(), %error, "cut-through: another version's flows are left alone");
            None
        }
    };
    folders.into_iter().filter_map(look).collect()
}

/// Takes the programs off all interfaces, and removes what is pinned. Needs root.
pub(super) fn remove(folder: &Path, programs: &Programs) {
    programs.detach();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
    match fs::remove_dir(folder) {
        Ok(()) => info!(folder = %folder.display(), "cut-through: removed what had no flows any more"),
        Err(error) => warn!(folder = %folder.display(), %error, "cut-through: remove what has no flows any more"),
    }
}

impl OtherLayout {
    fn open(folder: &Path) -> Result<Self, Unavailable> {
        let failed = |error| Unavailable::of_map("open another version's maps", error);
        let keys = MapData::from_pin(folder.join(KEYS)).map_err(failed)?;
        let flows = MapData::from_pin(folder.join(FLOWS)).map_err(failed)?;
        let record_bytes = flows.info().map_err(failed)?.value_size();
        // Says so when keys or values have another size.
        let keys = HashMap::try_from(Map::HashMap(keys)).map_err(failed)?;
        Ok(Self { programs: Programs::pinned(folder)?, keys, flows, record_bytes, notes: Notes::pinned(folder) })
    }

    fn is_empty(&self) -> bool {
        self.keys.keys().next().is_none()
    }

    /// Backends, and our ports towards them.
    pub(super) fn ports(&self) -> HashSet<(SocketAddr, u16)> {
        let of_backend = |entry: Result<(FlowKey, u32), _>| {
            let (key, reference) = entry.ok()?;
            (reference & 1 == BACKEND as u32).then(|| backend_and_port(key))
        };
        self.keys.iter().filter_map(of_backend).collect()
    }

    /// Removes the keys of flows that are over.
    pub(super) fn sweep(&mut self, now: u64, linger: Duration) -> Swept {
        let mut by_place: BTreeMap<u32, [Option<FlowKey>; 2]> = BTreeMap::new();
        for (key, reference) in self.keys.iter().flatten() {
            by_place.entry(reference >> 1).or_default()[(reference & 1) as usize] = Some(key);
        }
        let (mut freed, mut ends, mut is_left) = (Vec::new(), Vec::new(), false);
        for (place, keys) in by_place {
            let record = raw::array_value(self.flows.fd().as_fd(), place, self.record_bytes).unwrap_or_default();
            let is_over = Head::of(&record).is_some_and(|head| head.is_over(now, linger));
            let is_removed = |key: &Option<FlowKey>| key.is_none_or(|key| self.keys.remove(&key).is_ok());
            if !is_over || !keys.iter().map(is_removed).fold(true, |all, removed| all & removed) {
                is_left = true;
                continue;
            }
            freed.extend(keys[BACKEND].map(backend_and_port));
            ends.extend(self.end(place, keys, &record));
            if let Some(notes) = &mut self.notes {
                notes.forget(place);
            }
        }
        if !is_left {
            self.programs.detach();
            info!("cut-through: another version's flows have ended");
        }
        Swept { freed, ends, is_left }
    }

    /// `None` when it has been told, or nothing was written down.
    fn end(&self, place: u32, [client_key, backend_key]: [Option<FlowKey>; 2], record: &[u8]) -> Option<AdoptedEnd> {
        let note = self.notes.as_ref()?.at(place)?;
        let known = Known::of(&note)?;
        // The program may have given the client's key away to a new connection.
        let client = client_key.map(|key| ends(&key).0).or(known.client)?;
        Some(AdoptedEnd {
            identity: Identity::noted(&note, &known),
            client,
            backend: ends(&backend_key?).0,
            end: end_of(record, note.numbers_at)?,
            known: Some(known),
        })
    }
}

impl Programs {
    /// Of the links in a folder, and the filters of the layout after which it is named.
    pub(super) fn pinned(folder: &Path) -> Result<Self, Unavailable> {
        let failed = |error: io::Error| Unavailable::Bpffs { operation: "read", path: folder.into(), source: error };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let layout = name.rsplit('-').next().and_then(|layout| u32::from_str_radix(layout, 16).ok()).unwrap_or(0);
        let mut links = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(attach::LINK_PREFIX)) {
                links.push(open_pinned(&path).map_err(failed)?);
            }
        }
        Ok(Self { layout, links })
    }

    /// Needs CAP_NET_ADMIN at most.
    pub(super) fn detach(&self) {
        for link in &self.links {
            // One whose interface is gone is detached already.
            let _ = detach_link(link);
        }
        attach::detach_filters(self.layout);
    }
}

fn backend_and_port(key: FlowKey) -> (SocketAddr, u16) {
    let (backend, own) = ends(&key);
    (backend, own.port())
}

const _: () = assert!(CLIENT == 0 && BACKEND == 1, "the order of a flow's keys above");
