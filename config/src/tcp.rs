//! What the kernel is to do about peers that have gone silent.

use std::time::Duration;

/// Settings of the sockets to clients and backends; `None` leaves the kernel's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSettings {
    /// Probes of a connection without traffic.
    pub keepalive: Option<Keepalive>,
    /// How long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT, RFC 5482); whole milliseconds.
    pub user_timeout: Option<Duration>,
}

/// Probes of a connection without traffic (tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first one; whole seconds.
    pub after: Duration,
    /// Between two of them; whole seconds.
    pub interval: Duration,
    /// Without an answer to so many, the connection is given up; 1 to 127.
    pub probes: u8,
}
