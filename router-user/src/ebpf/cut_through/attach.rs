//! Attaches the two programs to every Ethernet interface of the network namespace, by links that stay pinned. A new
//! process has the links run its own programs, which is atomic: in a gap the local TCP would reset live flows.

use std::fs;
use std::io;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::sys::SyscallError;
use nix::net::if_::if_nameindex;
use router_common::cut_through::{PROGRAM, PROGRAM_OUT};
use tracing::{debug, warn};

use super::raw::hardware_type;
use crate::ebpf::{Unavailable, load_program};

/// The names of the interfaces that have both programs.
pub(super) fn attach(object: &mut Ebpf, pins: &Path) -> Result<Vec<String>, Unavailable> {
    let interfaces = ethernet_interfaces().map_err(|error| Unavailable::of_call("list the interfaces", error))?;
    remove_stale_pins(pins, &interfaces);
    let mut attached = Vec::new();
    // First where packets leave: a flow is made only when both programs have seen its SYNs.
    for (program, attach_type) in [(PROGRAM_OUT, TcAttachType::Egress), (PROGRAM, TcAttachType::Ingress)] {
        let classifier: &mut SchedClassifier = load_program(object, program, SchedClassifier::load)?;
        attached.clear();
        for (index, interface) in &interfaces {
            match attach_one(classifier, interface, attach_type, &pins.join(pin_name(program, *index))) {
                Ok(()) => attached.push(interface.clone()),
                // One that vanishes meanwhile, or that another program does not let us have, leaves the others.
                Err(error) => warn!(%interface, program, %error, "cut-through: interface left out"),
            }
        }
    }
    debug!(interfaces = attached.join(","), "cut-through: attached");
    Ok(attached)
}

fn attach_one(
    program: &mut SchedClassifier,
    interface: &str,
    attach_type: TcAttachType,
    pin: &Path,
) -> Result<(), AttachError> {
    let id = match PinnedLink::from_pin(pin) {
        Ok(link) => {
            let link = SchedClassifierLink::try_from(FdLink::from(link))?;
            let id = program.attach_to_link(link)?;
            // The pin holds the link, which now runs this program.
            drop(program.take_link(id)?);
            return Ok(());
        }
        Err(LinkError::SyscallError(SyscallError { io_error, .. })) if io_error.kind() == io::ErrorKind::NotFound => {
            program.attach_with_options(interface, attach_type, TcAttachOptions::TcxOrder(LinkOrder::default()))?
        }
        Err(error) => return Err(error.into()),
    };
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin).map_err(|error| AttachError::Pin(error.to_string()))?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error("{0}")]
    Program(#[from] ProgramError),
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("pin the link: {0}")]
    Pin(String),
}

/// Index and name of what carries Ethernet frames; loopback is not among them, and tunnels without frames are not.
fn ethernet_interfaces() -> io::Result<Vec<(u32, String)>> {
    let interfaces = if_nameindex()?;
    let names = interfaces.iter().map(|interface| (interface.index(), interface.name().to_string_lossy().into_owned()));
    Ok(names.filter(|(_, name)| hardware_type(name).is_ok_and(|kind| kind == ARPHRD_ETHER)).collect())
}

/// Links of interfaces that are gone are defunct; their indexes are never used again.
fn remove_stale_pins(pins: &Path, interfaces: &[(u32, String)]) {
    let current: Vec<_> = interfaces
        .iter()
        .flat_map(|(index, _)| [PROGRAM, PROGRAM_OUT].map(|program| pin_name(program, *index)))
        .collect();
    for entry in fs::read_dir(pins).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(LINK_PREFIX) && !current.contains(&name) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn pin_name(program: &str, interface: u32) -> String {
    format!("{LINK_PREFIX}{program}-{interface}")
}

const LINK_PREFIX: &str = "link-";
/// include/uapi/linux/if_arp.h.
const ARPHRD_ETHER: u16 = 1;
