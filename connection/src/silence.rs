//! Sockets whose peers may go silent: probes, and patience with what is not acknowledged.

use std::io;
use std::os::fd::AsFd;

use config::TcpSettings;
use socket2::{SockRef, TcpKeepalive};

/// Has the kernel watch over a connection's peer as the tenant wants it. Fails on a connection that is gone.
pub fn watch_over(socket: &impl AsFd, settings: &TcpSettings) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if let Some(keepalive) = &settings.keepalive {
        let probes = TcpKeepalive::new().with_time(keepalive.after).with_interval(keepalive.interval);
        socket.set_tcp_keepalive(&probes.with_retries(u32::from(keepalive.probes)))?;
    }
    if settings.user_timeout.is_some() {
        socket.set_tcp_user_timeout(settings.user_timeout)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use config::Keepalive;

    use super::*;

    #[test]
    fn the_kernel_has_what_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        watch_over(&socket, &TcpSettings::default()).unwrap();
        assert!(!SockRef::from(&socket).keepalive().unwrap());
        let keepalive = Keepalive { after: Duration::from_secs(7), interval: Duration::from_secs(3), probes: 2 };
        let user_timeout = Some(Duration::from_millis(1500));
        watch_over(&socket, &TcpSettings { keepalive: Some(keepalive), user_timeout }).unwrap();
        let kernel = SockRef::from(&socket);
        assert!(kernel.keepalive().unwrap());
        assert_eq!(kernel.tcp_keepalive_time().unwrap(), keepalive.after);
        assert_eq!(kernel.tcp_keepalive_interval().unwrap(), keepalive.interval);
        assert_eq!(kernel.tcp_keepalive_retries().unwrap(), 2);
        assert_eq!(kernel.tcp_user_timeout().unwrap(), user_timeout);
    }
}
