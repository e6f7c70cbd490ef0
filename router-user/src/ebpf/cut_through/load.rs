//! The start, in two parts: what needs privileges, and what comes after they are dropped.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::thread;

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use router_common::cut_through::{FlowKey, KEYS, MAX_FLOWS, SET};
use tracing::{info, warn};

use super::attach::{Attacher, Way};
use super::collector::Collector;
use super::flows::Adopted;
use super::layouts::{self, OtherLayout, Programs};
use super::open::open;
use super::ownership::{Owned, Ownership};
use super::ports::Ports;
use super::watch::Watch;
use super::{Carrier, self_test};
use crate::ebpf::{Pins, Unavailable, load};

/// Maps that exist, and programs that carry what a former process left; nobody accompanies the flows yet.
pub struct Loaded {
    maps: Maps,
    others: Vec<OtherLayout>,
    ownership: Ownership,
}

/// Where the maps are.
enum Maps {
    /// With programs of our own, which are attached.
    Attached(Attacher),
    /// With those of a former process, to be taken off the interfaces at the end; `None` when only other layouts' are.
    Former(Ebpf, Option<Programs>),
}

/// What has to be shown before anything is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The self-test.
    SelfTest,
    /// Nothing: the operator has asked for it.
    Configured,
}

impl Loaded {
    /// Makes or opens the pinned maps, has the kernel check the programs, and attaches them. Needs the privileges of the
    /// start; what comes later needs CAP_NET_ADMIN.
    pub fn load(runtime_dir: &Path, trust: Trust) -> Result<Self, Unavailable> {
        // Both have the verifier go through the programs, which takes most of the time.
        let test = (trust == Trust::SelfTest).then(self_test::begin).transpose()?;
        let ready = ready(runtime_dir);
        if let Some(test) = test {
            test.passed()?;
        }
        let (mut attacher, others, ownership) = ready?;
        if Ports::new(&HashSet::new()).per_backend() == 0 {
            let message = "no port is outside of net.ipv4.ip_local_port_range or in net.ipv4.ip_local_reserved_ports";
            return Err(Unavailable::of_call(message, io::Error::from_raw_os_error(libc::ENOSPC)));
        }
        attacher.look_and_tell()?;
        Ok(Self { maps: Maps::Attached(attacher), others, ownership })
    }

    /// What a former process left, to be accompanied until it has ended; `None` where there is nothing, or nothing any
    /// more: then it is removed.
    pub fn retire(runtime_dir: &Path) -> Result<Option<Self>, Unavailable> {
        let Some(pins) = Pins::find(runtime_dir) else { return Ok(None) };
        let folder = pins.existing_folder(&SET).filter(|folder| folder.join(KEYS).exists());
        if folder.is_none() && pins.other_layouts(&SET).is_ok_and(|others| others.is_empty()) {
            return Ok(None);
        }
        let ownership = Ownership::of(runtime_dir)?;
        let others = layouts::others(&pins, &ownership);
        let object = load(&SET, |loader| {
            for map in SET.maps {
                if let Some(folder) = &folder {
                    loader.map_pin_path(map, folder.join(map));
                }
            }
        })?;
        let programs = folder.as_deref().map(Programs::pinned).transpose()?;
        if let (Some(folder), Some(programs), Ownership::Held(_)) = (&folder, &programs, &ownership)
            && others.is_empty()
            && is_empty(&object)?
        {
            layouts::remove(folder, programs);
            return Ok(None);
        }
        if folder.is_none() && others.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { maps: Maps::Former(object, programs), others, ownership }))
    }

    /// Starts the thread that accompanies flows and attaches to interfaces that appear. While another process does that
    /// the carrier is empty.
    pub fn start(self, on_adopted: Adopted) -> Result<Carrier, Unavailable> {
        let carrier = Carrier::default();
        let thread = thread::Builder::new().name("cut-through".to_owned());
        let started = if let Ownership::Held(_) = self.ownership {
            let running = self.open(&carrier)?;
            thread.spawn(move || running.run(&on_adopted))
        } else {
            info!("cut-through: another process has the flows of this runtimeDir: relayed until it leaves");
            let carrier = carrier.clone();
            thread.spawn(move || match self.open(&carrier) {
                Ok(running) => running.run(&on_adopted),
                Err(error) => warn!("cut-through: off, all connections are relayed: {error}"),
            })
        };
        started.map_err(|error| Unavailable::of_call("start a thread", error))?;
        Ok(carrier)
    }

    /// Waits until the flows are ours, and adopts them.
    fn open(self, carrier: &Carrier) -> Result<Running, Unavailable> {
        let owned = self.ownership.wait().map_err(|error| Unavailable::of_call("lock the flows", error))?;
        let (cut_through, collector, watch) = match self.maps {
            Maps::Attached(mut attacher) => {
                #[cfg(feature = "ebpf-log")]
                crate::ebpf::kernel_log::follow(attacher.object());
                let (cut_through, collector) = open(attacher.object(), MAX_FLOWS, self.others)?;
                let (adopted, _) = cut_through.fill();
                let interfaces = attacher.names().join(",");
                info!(interfaces, ports = cut_through.state.ports.per_backend(), adopted, "cut-through");
                let watch = Watch::new(attacher, cut_through.state.clone())
                    .map_err(|error| Unavailable::of_call("listen for changes of interfaces", error))?;
                (cut_through, collector, Some(watch))
            }
            Maps::Former(mut object, programs) => {
                let (cut_through, mut collector) = open(&mut object, MAX_FLOWS, self.others)?;
                let (adopted, _) = cut_through.fill();
                info!(adopted, "cut-through: flows of a former process go on");
                collector.retire(programs);
                (cut_through, collector, None)
            }
        };
        // Nobody else fills it.
        let _ = carrier.0.set(cut_through);
        Ok(Running { collector, watch, owned })
    }
}

/// What the thread has.
struct Running {
    collector: Collector,
    watch: Option<Watch>,
    owned: Owned,
}

impl Running {
    fn run(self, on_adopted: &Adopted) {
        self.collector.run(self.watch, on_adopted);
        // The next process may begin.
        drop(self.owned);
    }
}

/// All but the attaching.
fn ready(runtime_dir: &Path) -> Result<(Attacher, Vec<OtherLayout>, Ownership), Unavailable> {
    let ownership = Ownership::of(runtime_dir)?;
    let pins = Pins::find_or_mount(runtime_dir)?;
    let folder = pins.folder(&SET)?;
    let object = load(&SET, |loader| {
        for map in SET.maps {
            loader.map_pin_path(map, folder.join(map));
        }
    })?;
    let attacher = Attacher::new(object, Way::pinned(folder))?;
    let others = layouts::others(&pins, &ownership);
    Ok((attacher, others, ownership))
}

/// Whether no flow has keys.
fn is_empty(object: &Ebpf) -> Result<bool, Unavailable> {
    let Some(keys) = object.map(KEYS) else { return Err(Unavailable::Object(format!("no map {KEYS}"))) };
    let keys: HashMap<&MapData, FlowKey, u32> =
        keys.try_into().map_err(|error| Unavailable::of_map("open the keys", error))?;
    Ok(keys.keys().next().is_none())
}
