//! Attaches the two programs to every Ethernet interface of the network namespace, also to those that appear later. With
//! tcx a new process has the pinned links run its own programs, which is atomic: in a gap the local TCP would reset live
//! flows. Without tcx (Linux before 6.6), and where a process that has dropped its privileges attaches, by clsact.

mod clsact;
mod tcx;

pub(super) use self::tcx::LINK_PREFIX;

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use aya::Ebpf;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use router_common::cut_through::{PROGRAM, PROGRAM_OUT, SET};
use tracing::{info, warn};

use crate::ebpf::interfaces::{self, Interface};
use crate::ebpf::{Unavailable, load_program};

/// The verified programs, and where they are attached.
pub(super) struct Attacher {
    object: Ebpf,
    way: Way,
    interfaces: HashMap<u32, Attached>,
}

/// How programs get to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Links that are pinned in this folder.
    PinnedTcx(PathBuf),
    /// Links that end with this process.
    Tcx,
    /// Filters, which stay until somebody removes them.
    Clsact,
}

/// An interface that has the programs.
#[derive(Debug)]
struct Attached {
    interface: Interface,
    /// What holds unpinned links.
    _links: Vec<tcx::Link>,
}

impl Attacher {
    /// Has the kernel verify both programs of `object`, whose maps must all be there still.
    pub(super) fn new(mut object: Ebpf, way: Way) -> Result<Self, Unavailable> {
        for program in [PROGRAM_OUT, PROGRAM] {
            load_program(&mut object, program, SchedClassifier::load)?;
        }
        Ok(Self { object, way, interfaces: HashMap::new() })
    }

    pub(super) fn object(&mut self) -> &mut Ebpf {
        &mut self.object
    }

    /// From now on as a process without the right to pin.
    pub(super) fn unprivileged(&mut self) {
        self.way = Way::Clsact;
    }

    /// Attaches to the interfaces that are new, whose names it gives, and forgets those that are gone.
    pub(super) fn look(&mut self) -> Result<Vec<String>, Unavailable> {
        let found = interfaces::list().map_err(|error| Unavailable::of_call("list the interfaces", error))?;
        if let Way::PinnedTcx(folder) = &self.way {
            tcx::remove_stale_pins(folder, &found);
        }
        let mut new = Vec::new();
        self.interfaces.retain(|index, _| found.iter().any(|interface| interface.index == *index));
        for interface in found.into_iter().filter(|interface| interface.ethernet) {
            if let Some(known) = self.interfaces.get_mut(&interface.index) {
                known.interface = interface;
                continue;
            }
            match self.attach(&interface) {
                Ok(links) => {
                    new.push(interface.name.clone());
                    self.interfaces.insert(interface.index, Attached { interface, _links: links });
                }
                // One that vanishes meanwhile, or that another program does not let us have, leaves the others.
                Err(error) => warn!(interface = interface.name, %error, "cut-through: interface left out"),
            }
        }
        Ok(new)
    }

    /// The same on the host, where somebody may want to know of it.
    pub(super) fn look_and_tell(&mut self) -> Result<(), Unavailable> {
        for interface in self.look()? {
            info!(interface, "cut-through: attached");
        }
        Ok(())
    }

    /// The names of the interfaces that have the programs.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.interfaces.values().map(|attached| attached.interface.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// Interfaces whose packets cannot be translated, by their indexes.
    pub(super) fn merging(&self) -> impl Iterator<Item = u32> {
        let merging = |attached: &&Attached| attached.interface.merges;
        self.interfaces.values().filter(merging).map(|attached| attached.interface.index)
    }

    /// First where packets leave: a flow is made only when both programs have seen its SYNs.
    fn attach(&mut self, interface: &Interface) -> Result<Vec<tcx::Link>, AttachError> {
        let mut links = Vec::new();
        for (name, direction) in [(PROGRAM_OUT, TcAttachType::Egress), (PROGRAM, TcAttachType::Ingress)] {
            let Some(program) = self.object.program_mut(name) else { return Err(AttachError::Missing(name)) };
            let program: &mut SchedClassifier = program.try_into()?;
            match &self.way {
                Way::PinnedTcx(folder) => {
                    tcx::attach_pinned(
                        program,
                        interface,
                        direction,
                        &folder.join(tcx::pin_name(name, interface.index)),
                    )?;
                    // What a former process without privileges did is done better now.
                    let _ = clsact::detach(SET.layout, interface.index, direction);
                }
                Way::Tcx => links.push(tcx::attach(program, &interface.name, direction)?),
                Way::Clsact => clsact::attach(program.fd()?.as_fd(), name, interface.index, direction)?,
            }
        }
        Ok(links)
    }
}

/// Removes the filters of a layout from all interfaces.
pub(super) fn detach_filters(layout: u32) {
    for interface in interfaces::list().unwrap_or_default().into_iter().filter(|interface| interface.ethernet) {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            // Most interfaces have none.
            let _ = clsact::detach(layout, interface.index, direction);
        }
    }
}

impl Way {
    /// The best one that this kernel has.
    pub(super) fn pinned(folder: PathBuf) -> Self {
        if tcx::is_known() { Self::PinnedTcx(folder) } else { Self::Clsact }
    }

    /// The same for a process that leaves nothing behind.
    pub(super) fn passing() -> Self {
        if tcx::is_known() { Self::Tcx } else { Self::Clsact }
    }
}

#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error("{0}")]
    Program(#[from] ProgramError),
    #[error("{0}")]
    Link(#[from] aya::programs::links::LinkError),
    #[error("pin the link: {0}")]
    Pin(String),
    #[error("clsact: {0}")]
    Netlink(#[from] io::Error),
    #[error("no program {0}")]
    Missing(&'static str),
}
