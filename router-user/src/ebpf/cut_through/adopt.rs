//! Takes over the flows that a former process left in the pinned maps: those that the kernel carries go on and are
//! logged at their end, those whose sockets died with the process are ended.

use std::borrow::Borrow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aya::maps::{HashMap, MapData, MapError};
use router_common::cut_through::{Address, BACKEND, CLIENT, FlowKey, LifeStage, reference};

use super::flow::{FlowNote, NewFlow, Owner};
use super::record;
use super::shared::State;
use super::table::FlowTable;

/// A flow of which both keys are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) place: u32,
    pub(super) keys: [FlowKey; 2],
    pub(super) client: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) backend: SocketAddr,
    pub(super) port: u16,
    stage: u16,
}

/// Every flow with keys. A flow without its client's key has been followed by a new connection of that client and is
/// over; one without the backend's was being removed. Their other key is found again here and removed.
pub(super) fn find_flows(
    keys: &HashMap<impl Borrow<MapData>, FlowKey, u32>,
    table: &FlowTable,
) -> Result<Vec<Found>, MapError> {
    let mut by_place: std::collections::HashMap<u32, [Option<FlowKey>; 2]> = std::collections::HashMap::new();
    for entry in keys.iter() {
        let (key, value) = entry?;
        by_place.entry(value >> 1).or_default()[(value & 1) as usize] = Some(key);
    }
    let mut found = Vec::new();
    for (place, [client_key, backend_key]) in by_place {
        debug_assert_eq!(reference(place, CLIENT), place << 1);
        let record = table.read(place);
        // The record says what the packets become, and so what the other key was.
        let client_key = client_key.unwrap_or_else(|| reverse(&record.directions[BACKEND]));
        let backend_key = backend_key.unwrap_or_else(|| reverse(&record.directions[CLIENT]));
        let (client, local) = ends(&client_key);
        let (backend, towards_backend) = ends(&backend_key);
        found.push(Found {
            place,
            keys: [client_key, backend_key],
            client,
            local,
            backend,
            port: towards_backend.port(),
            stage: record.stage,
        });
    }
    Ok(found)
}

/// Hands a flow to the collector.
pub(super) fn adopt(state: &State, found: Found) {
    let record = state.table.read(found.place);
    let carried = found.stage == LifeStage::Carried as u16;
    let idle_timeout = if carried { record::idle_timeout(&record) } else { Duration::ZERO };
    state.hand_over(NewFlow {
        place: found.place,
        generation: record.generation,
        keys: found.keys,
        client: found.client,
        local: found.local,
        backend: found.backend,
        port: found.port,
        opening: None,
        idle_timeout,
        note: FlowNote::Kept,
        owner: if found.stage == LifeStage::Told as u16 { Owner::Told } else { Owner::Adopted { _occupied: None } },
    });
}

/// What arrives from an end is the reverse of what leaves for it.
fn reverse(leaving: &router_common::cut_through::Direction) -> FlowKey {
    FlowKey { source: leaving.destination, destination: leaving.source, ports: leaving.ports.rotate_left(16) }
}

/// Source and destination.
pub(super) fn ends(key: &FlowKey) -> (SocketAddr, SocketAddr) {
    let ports = key.ports.to_ne_bytes();
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    (SocketAddr::new(address(&key.source), port(0)), SocketAddr::new(address(&key.destination), port(2)))
}

fn address(address: &Address) -> IpAddr {
    let mut bytes = [0; 16];
    for (place, word) in bytes.chunks_exact_mut(4).zip(address) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}
