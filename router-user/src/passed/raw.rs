//! Descriptors that a service manager left in this process at fixed numbers become owned ones. The only unsafe code of that.
#![expect(unsafe_code, reason = "descriptors that are known by their numbers alone; see the SAFETY comments")]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// The `count` descriptors from number 3 on (sd_listen_fds(3)), closed on execve(2) from here on; those that are not open are
/// left out. To be called once, by the process that LISTEN_PID names, before it opens anything.
pub(super) fn take(count: usize) -> Vec<OwnedFd> {
    let count = RawFd::try_from(count.min(MOST)).unwrap_or(0);
    (FIRST..FIRST + count).filter_map(take_one).collect()
}

fn take_one(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: borrowed for this call alone, in which nothing is closed; the kernel says EBADF for a number without a descriptor.
    fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).ok()?;
    // SAFETY: it is open, as was just seen, and nobody else's: the service manager gave these numbers to this process, which
    // has opened nothing yet and takes each of them once.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC).ok()?;
    Some(descriptor)
}

/// SD_LISTEN_FDS_START of sd_listen_fds(3).
const FIRST: RawFd = 3;

/// Above what systemd stores for a service by any sensible FileDescriptorStoreMax.
const MOST: usize = 65_536;
