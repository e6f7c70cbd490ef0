//! The link between the program and this process's network namespace. Pinned, so that a new process finds it and has it
//! run its own program in one step, from one connection to the next.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

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
    program: OwnedFd,
    program_id: u32,
    /// Whether the link runs our program, for good.
    is_ours: AtomicBool,
}

impl Link {
    /// Opens the pinned link, which goes on running a former process's program; without one that is of this namespace,
    /// attaches and pins a new one, which is detached again if this is dropped before [`take_over`](Self::take_over).
    pub(super) fn open(program: &mut SkLookup, pins: &Pins) -> Result<Self, Unavailable> {
        let path = pins.path(PROGRAM);
        let failed = |error: ProgramError| Unavailable::of_program(PROGRAM, error);
        let program_id = program.info().map_err(failed)?.id();
        let descriptor = program.fd().map_err(failed)?.as_fd().try_clone_to_owned();
        let descriptor = descriptor.map_err(call("duplicate the program"))?;
        let this = |link| Self { link, program: descriptor, program_id, is_ours: AtomicBool::new(false) };
        match open_pinned(&path) {
            Ok(link) => {
                if runs_here(&link).map_err(call("ask for the link"))? {
                    return Ok(this(link));
                }
                fs::remove_file(&path).map_err(call("remove the old link"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(call("open the pinned link")(error)),
        }
        attach(program, &path)?;
        Ok(this(open_pinned(&path).map_err(call("open the pinned link"))?))
    }

    /// Has the link run our program, if it does not yet.
    pub(super) fn take_over(&self) -> io::Result<()> {
        if self.is_taken_over() {
            update_link(&self.link, &self.program)?;
            info!("steer: took over from the process before");
        }
        self.is_ours.store(true, Ordering::Relaxed);
        Ok(())
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

/// A process that comes to nothing steers nothing.
impl Drop for Link {
    fn drop(&mut self) {
        if !self.is_ours.load(Ordering::Relaxed) && !self.is_taken_over() {
            let _ = self.detach();
        }
    }
}

/// Whether it is attached, and to our namespace: not one that was detached by a process that ended. The kernel tells the low
/// half of the namespace's inode number (include/uapi/linux/bpf.h, bpf_link_info).
fn runs_here(link: &OwnedFd) -> io::Result<bool> {
    let own = fs::metadata(NETNS)?.ino() as u32;
    Ok(matches!(netns_link(link)?, Some(NetnsLink { netns, .. }) if netns == own))
}

/// What a former process steers here, if one does.
pub(super) fn of_a_former_process(pins: &Pins) -> io::Result<Option<OwnedFd>> {
    match open_pinned(&pins.path(PROGRAM)) {
        Ok(link) if runs_here(&link)? => Ok(Some(link)),
        _ => Ok(None),
    }
}

/// Ends what a former process steers: the kernel's own lookup has all connections again.
pub(super) fn end(link: &OwnedFd) -> io::Result<()> {
    detach_link(link)
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

fn call(operation: &'static str) -> impl FnOnce(io::Error) -> Unavailable {
    move |error| Unavailable::of_call(format!("steer: {operation}"), error)
}

const NETNS: &str = "/proc/thread-self/ns/net";
