//! In a build with the feature `ebpf-log`: what the kernel's programs say of each packet (aya-log) becomes lines of the
//! router's log, at level debug with the target `router_ebpf`.

use std::os::fd::AsFd;
use std::thread;

use aya::Ebpf;
use aya_log::EbpfLogger;
use rustix::event::{PollFd, PollFlags, poll};
use tracing::{debug, warn};

/// Starts a thread that listens as long as the process lives. The programs must have been loaded.
pub(super) fn follow(object: &mut Ebpf) {
    let mut logger = match EbpfLogger::init_with_logger(object, Lines) {
        Ok(logger) => logger,
        Err(error) => return warn!(%error, "the kernel's programs say nothing"),
    };
    let listen = move || {
        loop {
            let ready = poll(&mut [PollFd::new(&logger.as_fd(), PollFlags::IN)], None);
            if ready.is_ok_and(|ready| ready > 0) {
                logger.flush();
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("ebpf-log".to_owned()).spawn(listen) {
        warn!(%error, "the kernel's programs say nothing: no thread");
    }
}

/// From the facade that aya-log speaks to the one that everything else here uses.
struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        debug!(target: "router_ebpf", "{}", record.args());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use aya::programs::SchedClassifier;
    use nix::unistd::Uid;
    use router_common::cut_through::{PROGRAM, PROGRAM_OUT, SET};

    use super::*;
    use crate::ebpf::{load, load_program};

    #[test]
    fn the_verifier_accepts_programs_that_tell() {
        if !Uid::effective().is_root() {
            assert!(std::env::var_os("CI").is_none(), "CI is to run this as root");
            println!("without root nothing is loaded");
            return;
        }
        let mut object = load(&SET, |_| {}).unwrap();
        for program in [PROGRAM_OUT, PROGRAM] {
            let _: &mut SchedClassifier = load_program(&mut object, program, SchedClassifier::load).unwrap();
        }
        follow(&mut object);
        assert!(object.map("AYA_LOGS").is_none(), "the thread has it");
    }
}
