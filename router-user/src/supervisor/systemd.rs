//! What systemd is told: readiness, reloads and the end, over the socket that NOTIFY_SOCKET names (sd_notify(3)). Without one
//! nobody is told anything.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};
use rustix::time::{ClockId, clock_gettime};
use tracing::debug;

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
    fn without_one_or_with_one_that_is_gone_nothing_happens() {
        for socket in [None, Some("relative"), Some("/nowhere/notify"), Some("vsock:2:1234")] {
            ServiceManager::at(socket.map(OsString::from)).stopping("draining");
        }
    }
}
