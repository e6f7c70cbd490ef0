//! The start, in two parts: what needs privileges, and what comes after they are dropped.

use std::path::Path;
use std::thread;

use router_common::cut_through::{KEYS, MAX_FLOWS, SET};
use tracing::info;

use super::attach::{Attacher, Way};
use super::collector::{Adopted, Collector};
use super::layouts::{self, OtherLayout, Programs};
use super::open::open;
use super::watch::Watch;
use super::{CutThrough, self_test};
use crate::ebpf::{Pins, Unavailable, load};

/// Maps that exist, and programs that carry what a former process left; nobody accompanies the flows yet.
pub struct Loaded {
    cut_through: CutThrough,
    collector: Collector,
    /// `None` where there are to be no new flows.
    attacher: Option<Attacher>,
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
        let (mut attacher, others) = ready?;
        let (cut_through, collector) = open(attacher.object(), MAX_FLOWS, others)?;
        attacher.look()?;
        Ok(Self { cut_through, collector, attacher: Some(attacher) })
    }

    /// What a former process left, to be accompanied until it has ended; `None` where there is nothing, or nothing any
    /// more: then it is removed.
    pub fn retire(runtime_dir: &Path) -> Result<Option<Self>, Unavailable> {
        let Some(pins) = Pins::find(runtime_dir) else { return Ok(None) };
        let others = layouts::others(&pins);
        let folder = pins.existing_folder(&SET).filter(|folder| folder.join(KEYS).exists());
        let Some(folder) = folder else {
            return if others.is_empty() { Ok(None) } else { Self::retiring(others, None).map(Some) };
        };
        let programs = Programs::pinned(&folder)?;
        let mut loaded = Self::retiring(others, Some(&folder))?;
        if loaded.collector.has_nothing() {
            layouts::remove(&folder, &programs);
            return Ok(None);
        }
        loaded.collector.retire(programs);
        Ok(Some(loaded))
    }

    /// Without programs of our own: those that are attached go on. `folder` has the maps, if there are any.
    fn retiring(others: Vec<OtherLayout>, folder: Option<&Path>) -> Result<Self, Unavailable> {
        let mut object = load(&SET, |loader| {
            for map in SET.maps {
                if let Some(folder) = folder {
                    loader.map_pin_path(map, folder.join(map));
                }
            }
        })?;
        let (cut_through, collector) = open(&mut object, MAX_FLOWS, others)?;
        Ok(Self { cut_through, collector, attacher: None })
    }

    /// Starts the thread that accompanies flows and attaches to interfaces that appear.
    pub fn start(self, on_adopted: Adopted) -> Result<CutThrough, Unavailable> {
        let Self { cut_through, collector, attacher } = self;
        let (adopted, _) = cut_through.fill();
        match &attacher {
            Some(attacher) => {
                let interfaces = attacher.names().join(",");
                info!(interfaces, ports = cut_through.state.ports.per_backend(), adopted, "cut-through");
            }
            None => info!(adopted, "cut-through: flows of a former process go on"),
        }
        let watch = attacher.map(|attacher| Watch::new(attacher, cut_through.state.clone()));
        let watch =
            watch.transpose().map_err(|error| Unavailable::of_call("listen for changes of interfaces", error))?;
        let thread = thread::Builder::new().name("cut-through".to_owned());
        thread
            .spawn(move || collector.run(watch, &on_adopted))
            .map_err(|error| Unavailable::of_call("start a thread", error))?;
        Ok(cut_through)
    }
}

/// All but the maps and the attaching.
fn ready(runtime_dir: &Path) -> Result<(Attacher, Vec<OtherLayout>), Unavailable> {
    let pins = Pins::find_or_mount(runtime_dir)?;
    let folder = pins.folder(&SET)?;
    let object = load(&SET, |loader| {
        for map in SET.maps {
            loader.map_pin_path(map, folder.join(map));
        }
    })?;
    Ok((Attacher::new(object, Way::pinned(folder))?, layouts::others(&pins)))
}
