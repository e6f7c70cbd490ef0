//! What of the end of an opening no scenario can time.

use nix::unistd::Uid;
use router_common::cut_through::{FlowKey, MAX_FLOWS, SET, SIGHTINGS, Sighting};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::unbounded_channel;

use super::super::CutThrough;
use super::super::open::open;
use super::super::raw;
use super::super::record::Described;
use super::super::test_connections::{Connections, HELLO};
use super::*;
use crate::ebpf::load;

#[tokio::test]
async fn a_flow_is_not_closed_before_late_bytes_are_acknowledged() {
    if !Uid::effective().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI has to run this as root");
        println!("skipped: only root may make eBPF maps");
        return;
    }
    let connections = Connections::with_hello().await;
    let Connections { mut far_client, client, backend, mut far_backend, attempt, .. } = connections;
    let (cut_through, mut collector) = without_programs(&connections.backend_key, connections.backend_sighting);
    let (sender, _ends) = unbounded_channel();
    let patience = Duration::from_secs(600);
    let Place { index, .. } =
        cut_through.install(attempt, client, backend, Described::default(), patience, sender).unwrap();
    assert!(collector.collect().0.is_empty());

    far_client.write_all(LATE).await.unwrap();
    while raw::unacknowledged(&far_client).unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    acknowledge(&cut_through, index);
    // As when its event and its arrival come together.
    collector.close(&[index, index]);
    assert_eq!(cut_through.opening(), 1);
    let mut brought = [0; HELLO.len() + LATE.len()];
    far_backend.read_exact(&mut brought).await.unwrap();
    assert_eq!(brought, *b"hello, and more");
    collector.close(&[index]);
    assert_eq!(cut_through.opening(), 1);

    acknowledge(&cut_through, index);
    collector.close(&[index]);
    assert_eq!(cut_through.opening(), 0);
    assert_eq!(cut_through.state.table.stage(index), LifeStage::Carried as u16);
}

/// Maps of its own, of which the kernel's programs know nothing.
fn without_programs(key: &FlowKey, sighting: Sighting) -> (CutThrough, Collector) {
    let mut object = load(&SET, |_| {}).unwrap();
    let sightings = object.map_mut(SIGHTINGS).unwrap();
    let mut sightings = aya::maps::HashMap::<_, FlowKey, Sighting>::try_from(sightings).unwrap();
    sightings.insert(key, sighting, 0).unwrap();
    open(&mut object, MAX_FLOWS, Vec::new()).unwrap()
}

/// What the program does when the backend has everything that was brought.
fn acknowledge(cut_through: &CutThrough, place: u32) {
    let table = &cut_through.state.table;
    assert!(table.pending(place));
    let record = table.read(place);
    table.write(place, Flow { pending: 0, ..record });
}

const LATE: &[u8] = b", and more";
