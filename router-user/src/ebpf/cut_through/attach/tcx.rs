//! tcx links: behind the programs that were attached before, and before all filters of clsact.

use std::fs;
use std::io;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::sys::SyscallError;
use router_common::cut_through::{PROGRAM, PROGRAM_OUT};

use super::AttachError;
use crate::ebpf::interfaces::Interface;

/// A link that is not pinned.
pub(super) type Link = SchedClassifierLink;

/// Whether the kernel has tcx (Linux 6.6).
pub(super) fn is_known() -> bool {
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok()
}

/// The program runs for as long as the link is not dropped.
pub(super) fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    direction: TcAttachType,
) -> Result<Link, AttachError> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(interface, direction, options)?;
    Ok(program.take_link(id)?)
}

/// Has the link that is pinned at `pin` run the program, or makes one.
pub(super) fn attach_pinned(
    program: &mut SchedClassifier,
    interface: &Interface,
    direction: TcAttachType,
    pin: &Path,
) -> Result<(), AttachError> {
    match PinnedLink::from_pin(pin) {
        Ok(link) => {
            let link = SchedClassifierLink::try_from(FdLink::from(link))?;
            let id = program.attach_to_link(link)?;
            // The pin holds the link, which now runs this program.
            drop(program.take_link(id)?);
            Ok(())
        }
        Err(LinkError::SyscallError(SyscallError { io_error, .. })) if io_error.kind() == io::ErrorKind::NotFound => {
            let link: FdLink = attach(program, &interface.name, direction)?.try_into()?;
            link.pin(pin).map_err(|error| AttachError::Pin(error.to_string()))?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Links of interfaces that are gone are defunct; their indexes are never used again.
pub(super) fn remove_stale_pins(folder: &Path, interfaces: &[Interface]) {
    let current: Vec<_> = interfaces
        .iter()
        .flat_map(|interface| [PROGRAM, PROGRAM_OUT].map(|program| pin_name(program, interface.index)))
        .collect();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(LINK_PREFIX) && !current.contains(&name) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

pub(super) fn pin_name(program: &str, interface: u32) -> String {
    format!("{LINK_PREFIX}{program}-{interface}")
}

/// Names of pinned links begin with it.
pub(in crate::ebpf::cut_through) const LINK_PREFIX: &str = "link-";
