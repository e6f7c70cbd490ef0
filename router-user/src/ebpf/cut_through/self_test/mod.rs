//! The self-test at the start: flows through the real attach points, in network namespaces that exist for some
//! milliseconds and that nobody else sees. The same object, attached by the same code, carries a connection from one end
//! to the other; every byte, every checksum and the size of the packets are looked at. Touches no pinned map, no
//! interface of the host, and no namespace but its own.

mod site;
mod traffic;

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use router_common::cut_through::{FLOWS, KEYS, NOTES, SET};
use tracing::info;

use self::site::Site;
use self::traffic::Checksums;
use super::attach::{Attacher, Way};
use super::open::open;
use crate::ebpf::{Unavailable, load};

/// Begins; the result says whether this kernel does what cut-through needs, as far as one host can tell.
pub(super) fn begin() -> Result<SelfTest, Unavailable> {
    // The thread takes its namespaces with it.
    let thread = thread::Builder::new().name("self-test".to_owned()).spawn(|| {
        let begun = Instant::now();
        test(Way::passing()).inspect(|()| {
            info!(milliseconds = begun.elapsed().as_millis(), "cut-through: self-test passed");
        })
    });
    Ok(SelfTest(thread.map_err(|error| Unavailable::of_call("self-test: start a thread", error))?))
}

/// One that was begun.
pub(super) struct SelfTest(JoinHandle<Result<(), Unavailable>>);

impl SelfTest {
    /// Waits for the result.
    pub(super) fn passed(self) -> Result<(), Unavailable> {
        self.0.join().unwrap_or_else(|_panicked| Err(failed("panicked")))
    }
}

/// On a thread of its own, which enters other namespaces.
fn test(way: Way) -> Result<(), Unavailable> {
    let object = load(&SET, |loader| {
        loader.map_max_entries(FLOWS, PLACES).map_max_entries(KEYS, 2 * PLACES).map_max_entries(NOTES, PLACES);
    })?;
    let site = Site::new().map_err(|error| Unavailable::of_call("self-test: make network namespaces", error))?;
    let mut attacher = Attacher::new(object, way)?;
    attacher.look()?;
    let (cut_through, mut collector) = open(attacher.object(), PLACES, Vec::new())?;
    let deadline = Instant::now() + PATIENCE;
    for family in site.families(deadline).map_err(failed)? {
        for checksums in [Checksums::ByHardware, Checksums::BySoftware] {
            let flow = traffic::Flow { site: &site, family, checksums, deadline };
            flow.carry(&cut_through, &mut collector)
                .map_err(|reason| failed(format!("{}, {}: {reason}", family.name(), checksums.name())))?;
        }
    }
    Ok(())
}

fn failed(what: impl ToString) -> Unavailable {
    Unavailable::SelfTest(what.to_string())
}

/// An error of a system call as the reason of a failure.
fn of(operation: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("{operation}: {error}")
}

/// One flow at a time, and each place is free again only after a while.
const PLACES: u32 = 16;
/// Many times of what the flows take, for a host that is very busy.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use nix::unistd::Uid;

    use super::*;

    #[test]
    fn this_kernel_passes_with_tcx_and_with_clsact() {
        if !Uid::effective().is_root() {
            assert!(std::env::var_os("CI").is_none(), "CI has to run this as root");
            println!("skipped: only root may load eBPF programs");
            return;
        }
        for way in [Way::Tcx, Way::Clsact] {
            thread::spawn(|| test(way).unwrap()).join().unwrap();
        }
    }
}
