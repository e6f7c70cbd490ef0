//! What systemd is told: readiness, reloads and the end, over the socket that NOTIFY_SOCKET names (sd_notify(3)). It is given
//! the listening sockets to keep, too (sd_pid_notify_with_fds(3), FDSTORE=1). Without one nobody is told anything.

use std::ffi::OsString;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use ::connection::channel::DESCRIPTOR_LIMIT;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    sendmsg_addr, sendto, socket_with, sockopt,
};
use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, warn};

use crate::listening::{Bound, ListeningSockets};
use crate::passed::{ADMIN, kept_name};

/// Whoever started us, where that wants to know. Clones tell the same.
#[derive(Clone, Debug)]
pub(super) struct ServiceManager(Option<Arc<SocketAddrUnix>>);

impl ServiceManager {
    /// The one that the environment names.
    pub(super) fn of_environment() -> Self {
        Self::at(std::env::var_os("NOTIFY_SOCKET"))
    }

    fn at(socket: Option<OsString>) -> Self {
        let address = socket.and_then(|name| match name.as_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name).ok(),
            [b'/', ..] => SocketAddrUnix::new(&*name).ok(),
            // sd_notify(3) also knows vsock, which is for virtual machines.
            _ => None,
        });
        Self(address.map(Arc::new))
    }

    /// Everybody is served.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Something changes; [`ready`](Self::ready) follows.
    pub(super) fn reloading(&self, status: &str) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\nSTATUS={status}"));
    }

    /// The drain has begun.
    pub(super) fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// The sockets that this process has bound: whoever starts it again passes them, and meanwhile nobody is refused. Ahead
    /// of [`ready`](Self::ready).
    pub(super) fn keep(&self, sockets: &ListeningSockets) {
        self.keep_listeners(&sockets.listeners);
        if let (Some(admin), true) = (&sockets.admin, sockets.admin_is_fresh) {
            self.store(ADMIN, &[admin.as_fd()]);
        }
    }

    /// The same of listeners that a reload has brought. Where one is not taken, the others are not tried: nobody shall wait
    /// for a manager that does not listen more than once.
    pub(super) fn keep_listeners(&self, listeners: &[Bound]) {
        let _ = listeners.iter().all(|bound| {
            let sockets: Vec<_> = bound.fresh().iter().map(AsFd::as_fd).collect();
            self.store(&kept_name(&bound.name), &sockets)
        });
    }

    /// A listener is gone, and its port is to be closed.
    pub(super) fn forget_listener(&self, name: &str) {
        self.forget(&kept_name(name));
    }

    /// The admin endpoint has another address, or none.
    pub(super) fn forget_admin(&self) {
        self.forget(ADMIN);
    }

    /// What was kept under this name is nobody's any more.
    pub(super) fn forget(&self, name: &str) {
        self.insist(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[]);
    }

    fn store(&self, name: &str, descriptors: &[BorrowedFd<'_>]) -> bool {
        let state = format!("FDSTORE=1\nFDNAME={name}");
        descriptors.chunks(DESCRIPTOR_LIMIT).all(|part| self.insist(&state, part))
    }

    /// Waits for systemd a little: what it does not take, the next crash loses. Says whether it was taken.
    fn insist(&self, state: &str, descriptors: &[BorrowedFd<'_>]) -> bool {
        let Some(address) = &self.0 else { return false };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTOR_LIMIT))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        // The space is for as many as the callers pass.
        let _fits = descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors));
        let told = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).and_then(|socket| {
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
            let message = [IoSlice::new(state.as_bytes())];
            sendmsg_addr(&socket, &**address, &message, &mut control, SendFlags::NOSIGNAL)
        });
        if let Err(error) = &told {
            warn!(%error, state, "the service manager does not keep listening sockets as it is asked to");
        }
        told.is_ok()
    }

    /// Waits for nobody: what systemd does not read is lost.
    fn tell(&self, state: &str) {
        let Some(address) = &self.0 else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let told = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .and_then(|socket| sendto(&socket, state.as_bytes(), SendFlags::NOSIGNAL, &**address));
        if let Err(error) = told {
            debug!(%error, state, "the service manager cannot be told");
        }
    }
}

/// systemd reads at once, unless it has no room for more messages.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn it_is_told_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("sni-router-notify-{}", std::process::id());
        let at_path = UnixDatagram::bind(&path).unwrap();
        let at_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        ServiceManager::at(Some(path.into())).ready("2 tenants");
        assert_eq!(heard(&at_path), "READY=1\nSTATUS=2 tenants");
        ServiceManager::at(Some(format!("@{name}").into())).reloading("reading");
        let reloading = heard(&at_name);
        let microseconds = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(reloading.starts_with("RELOADING=1\n") && microseconds.parse::<u64>().unwrap() > 0, "{reloading}");
    }

    #[test]
    fn one_that_does_not_listen_is_waited_for_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(Some(path.into()));
        // Fills the queue (net.unix.max_dgram_qlen).
        (0..1000).for_each(|_| manager.ready(""));
        let socket = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = |name: usize| Bound {
            name: format!("l{name}"),
            address: "127.0.0.1:1".parse().unwrap(),
            sockets: vec![socket()],
            fresh: 1,
        };
        let listeners: Vec<_> = (0..20).map(bound).collect();
        let began = std::time::Instant::now();
        manager.keep_listeners(&listeners);
        assert!((PATIENCE..5 * PATIENCE).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[test]
    fn without_one_or_with_one_that_is_gone_nothing_happens() {
        for socket in [None, Some("relative"), Some("/nowhere/notify"), Some("vsock:2:1234")] {
            ServiceManager::at(socket.map(OsString::from)).stopping("draining");
        }
    }
}
