//! The link between the program and this process's network namespace. Pinned, so that a new process finds it and has it
//! run its own program in one step, from one connection to the next.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::programs::links::FdLink;
use aya::programs::{ProgramError, SkLookup};
use router_common::steer::PROGRAM;
use tracing::info;

use super::super::raw::{NetnsLink, detach_link, netns_link, open_pinned, update_link};
use super::super::{Pins, Unavailable};

/// An attached link and the program that this process has it run.
#[derive(Debug)]
pub(super) struct Link {
    link: OwnedFd,
    program_id: u32,
}

impl Link {
    /// Has the pinned link run `program`; without one that is of this namespace, attaches and pins a new one.
    pub(super) fn take_over(program: &mut SkLookup, pins: &Pins) -> Result<Self, Unavailable> {
        let path = pins.path(PROGRAM);
        let program_id = program.info().map_err(|error| Unavailable::of_program(PROGRAM, error))?.id();
        match open_pinned(&path) {
            Ok(link) => {
                if runs_now(&link, program)? {
                    info!(path = %path.display(), "steer: took over from the process before");
                    return Ok(Self { link, program_id });
                }
                fs::remove_file(&path).map_err(call("remove the old link"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(call("open the pinned link")(error)),
        }
        attach(program, &path)?;
        Ok(Self { link: open_pinned(&path).map_err(call("open the pinned link"))?, program_id })
    }

    /// Whether another process has made the link run its own program.
    pub(super) fn is_taken_over(&self) -> bool {
        netns_link(&self.link).is_ok_and(|found| found.is_some_and(|found| found.program_id != self.program_id))
    }

    /// Detaches the program; the kernel's own lookup has all connections again.
    pub(super) fn detach(&self) -> io::Result<()> {
        detach_link(&self.link)
    }
}

/// Has the link run `program`; `false` for a link that was detached by a process that ended, or of a namespace that is
/// not ours.
fn runs_now(link: &OwnedFd, program: &SkLookup) -> Result<bool, Unavailable> {
    if !is_of_this_netns(link).map_err(call("ask for the link"))? {
        return Ok(false);
    }
    let program = program.fd().map_err(|error| Unavailable::of_program(PROGRAM, error))?;
    match update_link(link, program) {
        Ok(()) => Ok(true),
        // Detached since we asked (kernel/bpf/net_namespace.c, bpf_netns_link_update_prog).
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(false),
        Err(error) => Err(call("replace the program")(error)),
    }
}

/// Ends what a former process with another configuration steered here.
pub(super) fn remove(pins: &Pins) -> io::Result<()> {
    let path = pins.path(PROGRAM);
    match open_pinned(&path) {
        Ok(link) if is_of_this_netns(&link)? => fs::remove_file(&path),
        _ => Ok(()),
    }
}

/// A link that cannot be pinned is detached again when it is dropped.
fn attach(program: &mut SkLookup, path: &Path) -> Result<(), Unavailable> {
    let failed = |error: ProgramError| Unavailable::of_program(PROGRAM, error);
    let netns = File::open(NETNS).map_err(call("open the network namespace"))?;
    let id = program.attach(netns).map_err(failed)?;
    let link = FdLink::from(program.take_link(id).map_err(failed)?);
    match link.pin(path) {
        Ok(_pinned) => Ok(()),
        Err(error) => Err(Unavailable::Bpffs { operation: "pin", path: path.into(), source: io::Error::other(error) }),
    }
}

/// The kernel tells the low half of the inode's number (include/uapi/linux/bpf.h, bpf_link_info).
fn is_of_this_netns(link: &OwnedFd) -> io::Result<bool> {
    let own = fs::metadata(NETNS)?.ino() as u32;
    Ok(matches!(netns_link(link)?, Some(NetnsLink { netns, .. }) if netns == own))
}

fn call(operation: &'static str) -> impl FnOnce(io::Error) -> Unavailable {
    move |error| Unavailable::of_call(format!("steer: {operation}"), error)
}

const NETNS: &str = "/proc/thread-self/ns/net";
