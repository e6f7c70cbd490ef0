//! Why a connection is relayed instead: the label `reason` of `sni_router_data_path_fallback_total`.

use std::io;

use nix::errno::Errno;

/// One reason per thing that an operator could look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Fallback {
    /// The backend or the client is on this host: its packets do not arrive from outside.
    Local,
    /// One end speaks IPv4 and the other one IPv6.
    Family,
    /// The client's packets do not arrive where the program sees them, or under another address (NAT).
    ClientNotSeen,
    /// The same of the backend.
    BackendNotSeen,
    /// One of the ends has finished or reset its connection already.
    Finished,
    /// Bytes of the client arrived out of order, or something was sent to it.
    EarlyData,
    /// The backend spoke first.
    BackendSpoke,
    /// Timestamps on one connection only.
    Timestamps,
    /// SACK on one connection only.
    Sack,
    /// The client may send larger segments than the way to the backend takes.
    SegmentSize,
    /// Timestamps in microseconds (the route's feature tcp_usec_ts).
    MicrosecondTimestamps,
    /// IP options.
    IpOptions,
    /// More bytes are waiting than are sent in one go.
    LongHello,
    /// All places for flows are taken.
    MapFull,
    /// All source ports towards the backend are taken.
    NoPort,
    /// CAP_NET_ADMIN is missing.
    NotPermitted,
    /// A system call failed otherwise.
    Failed,
}

impl Fallback {
    /// Every value, in the order of their discriminants.
    pub const ALL: [Self; 17] = [
        Self::Local,
        Self::Family,
        Self::ClientNotSeen,
        Self::BackendNotSeen,
        Self::Finished,
        Self::EarlyData,
        Self::BackendSpoke,
        Self::Timestamps,
        Self::Sack,
        Self::SegmentSize,
        Self::MicrosecondTimestamps,
        Self::IpOptions,
        Self::LongHello,
        Self::MapFull,
        Self::NoPort,
        Self::NotPermitted,
        Self::Failed,
    ];

    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Family => "family",
            Self::ClientNotSeen => "client_not_seen",
            Self::BackendNotSeen => "backend_not_seen",
            Self::Finished => "finished",
            Self::EarlyData => "early_data",
            Self::BackendSpoke => "backend_spoke",
            Self::Timestamps => "timestamps",
            Self::Sack => "sack",
            Self::SegmentSize => "segment_size",
            Self::MicrosecondTimestamps => "microsecond_timestamps",
            Self::IpOptions => "ip_options",
            Self::LongHello => "long_hello",
            Self::MapFull => "map_full",
            Self::NoPort => "no_port",
            Self::NotPermitted => "not_permitted",
            Self::Failed => "failed",
        }
    }
}

impl From<io::Error> for Fallback {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM | Errno::EACCES) => Self::NotPermitted,
            Some(Errno::E2BIG | Errno::ENOMEM | Errno::ENOSPC) => Self::MapFull,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_are_positions_and_labels_are_unique() {
        assert!(Fallback::ALL.iter().enumerate().all(|(position, reason)| position == *reason as usize));
        let mut labels = Fallback::ALL.map(Fallback::label);
        labels.sort_unstable();
        assert!(labels.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
