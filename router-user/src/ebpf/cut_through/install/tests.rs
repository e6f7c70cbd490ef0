//! Refusals that no scenario can provoke within reason: a full table, a missing capability, a system call that fails.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::channel;

use aya::maps::Map;
use nix::unistd::Uid;
use router_common::cut_through::{DIALS, FLOWS, FlowKey, KEYS, MAX_FLOWS, SET, SIGHTINGS, VERDICTS};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::unbounded_channel;

use super::super::leaving::Leaving;
use super::super::ports::Ports;
use super::super::shared::{Maps, State};
use super::super::table::FlowTable;
use super::super::test_connections::{Connections, HELLO};
use super::*;
use crate::ebpf::load;

#[test]
fn a_full_table_is_told() {
    refused(&|_| (), Fallback::MapFull, Fixture { places: 0, ..Fixture::default() });
}

#[test]
fn a_missing_capability_is_told() {
    let without = |_: &CutThrough| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        // Of this thread alone.
        set_capabilities(None, sets).unwrap();
    };
    refused(&without, Fallback::NotPermitted, Fixture::default());
}

#[test]
fn a_system_call_that_fails_otherwise_is_told() {
    refused(&|_| (), Fallback::Failed, Fixture { keys_are_none: true, ..Fixture::default() });
}

#[test]
fn a_process_that_leaves_takes_no_flow_any_more() {
    refused(&CutThrough::leave, Fallback::AnotherProcess, Fixture::default());
}

/// What is not as usual.
struct Fixture {
    places: u32,
    keys_are_none: bool,
}

impl Default for Fixture {
    fn default() -> Self {
        Self { places: 1, keys_are_none: false }
    }
}

impl Fixture {
    /// Maps of its own, of which the kernel's programs know nothing.
    fn cut_through(&self, key: &FlowKey, sighting: Sighting) -> CutThrough {
        let mut object = load(&SET, |_| {}).unwrap();
        let mut take = |name: &str| object.take_map(name).unwrap();
        let (keys, flows, sightings, dials) = (take(KEYS), take(FLOWS), take(SIGHTINGS), take(DIALS));
        let table = FlowTable::map(descriptor(&flows).as_fd(), MAX_FLOWS as usize).unwrap();
        let keys = if self.keys_are_none { File::open("/dev/null").unwrap().into() } else { descriptor(&keys) };
        let maps = Maps { keys, sightings: descriptor(&sightings), dials: descriptor(&dials) };
        let mut sightings = aya::maps::HashMap::<_, FlowKey, Sighting>::try_from(sightings).unwrap();
        sightings.insert(key, sighting, 0).unwrap();
        let free = VecDeque::from_iter(0..self.places);
        let state =
            State::new(table, maps, Ports::new(&HashSet::new()), free, 0, channel().0, Leaving::not_yet().unwrap());
        CutThrough { state: Arc::new(state), verdicts: take(VERDICTS).try_into().unwrap() }
    }
}

fn descriptor(map: &Map) -> OwnedFd {
    super::super::open::descriptor(map).unwrap()
}

/// Two connections that could be switched are not, for this reason, and go on as they were.
fn refused(prepare: &(dyn Fn(&CutThrough) + Sync), expected: Fallback, fixture: Fixture) {
    if !Uid::effective().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI has to run this as root");
        println!("skipped: only root may make eBPF maps");
        return;
    }
    let try_it = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connections = Connections::with_hello().await;
            let cut_through = fixture.cut_through(&connections.backend_key, connections.backend_sighting);
            let Connections { far_client: _far_client, client, backend, mut far_backend, attempt, .. } = connections;
            prepare(&cut_through);

            let (sender, _ends) = unbounded_channel();
            let patience = Duration::from_secs(600);
            let switched = cut_through.install(attempt, client, backend, Described::default(), patience, sender);
            let Err(NotCut::Relay { client, backend, reason }) = switched else { panic!("{switched:?}") };
            let (mut client, mut backend) =
                (TcpStream::from_std(client).unwrap(), TcpStream::from_std(backend).unwrap());
            assert_eq!(reason, expected);
            assert_eq!(cut_through.fill().0, 0);
            let mut hello = [0; HELLO.len()];
            client.read_exact(&mut hello).await.unwrap();
            backend.write_all(&hello).await.unwrap();
            far_backend.read_exact(&mut hello).await.unwrap();
            assert_eq!(&hello, HELLO);
        });
    };
    std::thread::scope(|scope| scope.spawn(try_it).join()).unwrap();
}
