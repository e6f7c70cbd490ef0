//! The start, in two parts: what needs privileges, and what comes after they are dropped.

use std::path::Path;
use std::thread;

use router_common::cut_through::{MAX_FLOWS, SET};
use tracing::info;

use super::attach::{Attacher, Way};
use super::collector::{Collector, OnAdoptedEnd};
use super::open::open;
use super::watch::Watch;
use super::{CutThrough, self_test};
use crate::ebpf::{Pins, Unavailable, load};

/// Programs and maps that exist and carry what a former process left; nobody accompanies the flows yet.
pub struct Loaded {
    cut_through: CutThrough,
    collector: Collector,
    attacher: Attacher,
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
        let loaded = Self::ready(runtime_dir);
        if let Some(test) = test {
            test.passed()?;
        }
        let mut loaded = loaded?;
        loaded.attacher.look()?;
        Ok(loaded)
    }

    /// All but the attaching.
    fn ready(runtime_dir: &Path) -> Result<Self, Unavailable> {
        let folder = Pins::find_or_mount(runtime_dir)?.folder(&SET)?;
        let object = load(&SET, |loader| {
            for map in SET.maps {
                loader.map_pin_path(map, folder.join(map));
            }
        })?;
        let mut attacher = Attacher::new(object, Way::pinned(folder))?;
        let (cut_through, collector) = open(attacher.object(), MAX_FLOWS)?;
        Ok(Self { cut_through, collector, attacher })
    }

    /// Starts the thread that accompanies flows and attaches to interfaces that appear.
    pub fn start(self, on_adopted_end: OnAdoptedEnd) -> Result<CutThrough, Unavailable> {
        let Self { cut_through, collector, attacher } = self;
        let interfaces = attacher.names().join(",");
        let watch = Watch::new(attacher, cut_through.state.clone())
            .map_err(|error| Unavailable::of_call("listen for changes of interfaces", error))?;
        let thread = thread::Builder::new().name("cut-through".to_owned());
        thread
            .spawn(move || collector.run(watch, &on_adopted_end))
            .map_err(|error| Unavailable::of_call("start a thread", error))?;
        let (adopted, _) = cut_through.fill();
        info!(interfaces, ports = cut_through.state.ports.per_backend(), adopted, "cut-through");
        Ok(cut_through)
    }
}
