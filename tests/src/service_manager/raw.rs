//! Descriptors at the numbers where a service finds them. The only unsafe code of the tests.
#![expect(unsafe_code, reason = "runs between fork(2) and execve(2); see the SAFETY comment")]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{FdFlags, dup2, fcntl_dupfd_cloexec, fcntl_setfd};

/// The program gets these from number 3 on (sd_listen_fds(3)).
pub(super) fn pass(command: &mut Command, descriptors: &[impl AsFd]) -> std::io::Result<()> {
    let high = descriptors.iter().map(|descriptor| Ok(fcntl_dupfd_cloexec(descriptor, BEYOND)?));
    let high = high.collect::<std::io::Result<Vec<OwnedFd>>>()?;
    // SAFETY: the closure calls dup2(2) and fcntl(2) alone, which are async-signal-safe (signal-safety(7)), and allocates
    // nothing. What a number stood for in the child before, nobody there uses any more.
    unsafe {
        command.pre_exec(move || {
            for (number, descriptor) in (FIRST..).zip(&high) {
                let mut target = std::mem::ManuallyDrop::new(std::os::fd::FromRawFd::from_raw_fd(number));
                dup2(descriptor, &mut target)?;
                fcntl_setfd(&*target, FdFlags::empty())?;
                debug_assert_eq!(target.as_raw_fd(), number);
            }
            Ok(())
        });
    }
    Ok(())
}

const FIRST: i32 = 3;
/// Above every number that is passed.
const BEYOND: i32 = 500;
