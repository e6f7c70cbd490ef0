//! What workers and collector share: the maps, the free places and the free ports.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use router_common::cut_through::{BACKEND, CLIENT, Flow, FlowKey, LifeStage, Sighting, reference};

use super::flow::NewFlow;
use super::leaving::Leaving;
use super::ports::Ports;
use super::raw;
use super::table::FlowTable;

/// Shared by all threads.
#[derive(Debug)]
pub(super) struct State {
    pub(super) table: FlowTable,
    pub(super) ports: Ports,
    keys: OwnedFd,
    sightings: OwnedFd,
    dials: OwnedFd,
    /// The place that was free longest is taken first.
    free: Mutex<VecDeque<u32>>,
    /// Held while keys are removed, shared while they are added: the client's key of a flow that is over may belong to a
    /// newer one.
    publishing: RwLock<()>,
    to_collector: Sender<NewFlow>,
    /// Indexes of interfaces whose packets cannot be translated.
    merging: Mutex<Vec<u32>>,
    /// Backends of whose packets the program sees the first alone, and since when.
    unseen: Mutex<HashMap<SocketAddr, Instant>>,
    /// Places in use.
    pub(super) flows: AtomicU64,
    /// Flows whose sockets still exist.
    pub(super) opening: AtomicU64,
    /// Flows of other layouts.
    pub(super) others: AtomicU64,
    /// Whether there are to be no new flows.
    pub(super) leaving: Leaving,
}

/// The maps by their names.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) keys: OwnedFd,
    pub(super) sightings: OwnedFd,
    pub(super) dials: OwnedFd,
}

impl State {
    pub(super) fn new(
        table: FlowTable,
        maps: Maps,
        ports: Ports,
        free: VecDeque<u32>,
        used: u64,
        to_collector: Sender<NewFlow>,
        leaving: Leaving,
    ) -> Self {
        let Maps { keys, sightings, dials } = maps;
        Self {
            table,
            ports,
            keys,
            sightings,
            dials,
            free: Mutex::new(free),
            publishing: RwLock::new(()),
            to_collector,
            merging: Mutex::default(),
            unseen: Mutex::default(),
            flows: AtomicU64::new(used),
            opening: AtomicU64::new(0),
            others: AtomicU64::new(0),
            leaving,
        }
    }

    /// `None` also when an interface is not known.
    pub(super) fn sighting(&self, key: &FlowKey) -> io::Result<Option<Sighting>> {
        let found = raw::sighting(self.sightings.as_fd(), key)?;
        Ok(found.filter(|sighting| sighting.arrives != 0 && sighting.leaves != 0))
    }

    pub(super) fn announce(&self, key: &FlowKey, without: u32) -> io::Result<()> {
        raw::announce_dial(self.dials.as_fd(), key, without)
    }

    pub(super) fn take_place(&self) -> Option<u32> {
        let place = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        self.flows.fetch_add(1, Ordering::Relaxed);
        Some(place)
    }

    /// The keys of the place must be gone.
    pub(super) fn give_back_place(&self, place: u32) {
        let generation = self.table.read(place).generation;
        self.table.write(place, Flow { generation, stage: LifeStage::Free as u16, ..Flow::default() });
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push_back(place);
        self.flows.fetch_sub(1, Ordering::Relaxed);
    }

    /// From here on the program gets the packets of both ends.
    pub(super) fn publish(&self, place: u32, keys: &[FlowKey; 2]) -> io::Result<()> {
        let _publishing = self.publishing.read().unwrap_or_else(PoisonError::into_inner);
        let values = [reference(place, CLIENT), reference(place, BACKEND)];
        let published = raw::insert_keys(self.keys.as_fd(), keys, &values);
        if published.is_err() {
            raw::remove_keys(self.keys.as_fd(), keys);
        }
        published
    }

    /// From here on the local TCP gets them: the keys of all these places.
    pub(super) fn withdraw<'k>(&self, flows: impl IntoIterator<Item = (u32, &'k [FlowKey; 2])>) {
        let _publishing = self.publishing.write().unwrap_or_else(PoisonError::into_inner);
        let mut keys = Vec::new();
        for (place, [client, backend]) in flows {
            if !self.table.client_key_released(place) {
                keys.push(*client);
            }
            keys.push(*backend);
            // Whoever comes from there now is somebody new. The backend's key stays ours as long as its port does.
            self.table.release_client_key(place);
        }
        raw::remove_keys(self.keys.as_fd(), &keys);
    }

    pub(super) fn set_merging(&self, interfaces: Vec<u32>) {
        *self.merging.lock().unwrap_or_else(PoisonError::into_inner) = interfaces;
    }

    /// Whether packets that arrive there cannot be translated.
    pub(super) fn merges(&self, interface: u32) -> bool {
        self.merging.lock().unwrap_or_else(PoisonError::into_inner).contains(&interface)
    }

    /// The program does not see this backend's packets.
    pub(super) fn is_unseen(&self, backend: SocketAddr) {
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.retain(|_, since| since.elapsed() < UNSEEN_FOR);
        unseen.insert(backend, Instant::now());
    }

    /// Whether that was found out lately.
    pub(super) fn was_unseen(&self, backend: SocketAddr) -> bool {
        let unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.get(&backend).is_some_and(|since| since.elapsed() < UNSEEN_FOR)
    }

    pub(super) fn hand_over(&self, flow: NewFlow) {
        // The collector lives as long as the process; without it nothing of this would be running.
        let _ = self.to_collector.send(flow);
    }
}

/// Until it is tried again: each try costs its connection a while.
const UNSEEN_FOR: Duration = Duration::from_secs(60);
