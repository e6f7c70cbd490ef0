//! Why a connection is relayed instead: the label `reason` of `sni_router_data_path_fallback_total`.

use std::io;

use connection::label_set;
use nix::errno::Errno;

label_set! {
    /// One reason per thing that an operator could look at.
    pub enum Fallback {
        /// The backend or the client is on this host, so that its packets do not arrive from outside; or all were when
        /// the router started.
        Local = "local",
        /// One end speaks IPv4 and the other one IPv6.
        Family = "family",
        /// The backend sees the client's own address (`clientAddress: Transparent`), whose packets are the client's as well.
        ClientAddress = "client_address",
        /// The client's packets do not arrive where the program sees them, or under another address (NAT).
        ClientNotSeen = "client_not_seen",
        /// The same of the backend.
        BackendNotSeen = "backend_not_seen",
        /// The program sees the backend's SYN and not its acknowledgements; also of later connections for a while.
        AcknowledgementUnseen = "acknowledgement_unseen",
        /// One of the ends has finished or reset its connection already.
        Finished = "finished",
        /// Bytes of the client arrived out of order, or something was sent to it.
        EarlyData = "early_data",
        /// The backend spoke first.
        BackendSpoke = "backend_spoke",
        /// Timestamps on one connection only.
        Timestamps = "timestamps",
        /// SACK on one connection only.
        Sack = "sack",
        /// The client may send larger segments than the way to the backend takes.
        SegmentSize = "segment_size",
        /// Timestamps in microseconds (the route's feature tcp_usec_ts).
        MicrosecondTimestamps = "microsecond_timestamps",
        /// An interface merges packets beyond what can be translated (LRO, or GRO by fragment list).
        ReceiveOffload = "receive_offload",
        /// IP options.
        IpOptions = "ip_options",
        /// More bytes are waiting than are sent in one go.
        LongHello = "long_hello",
        /// All places for flows are taken.
        MapFull = "map_full",
        /// All source ports towards the backend are taken.
        NoPort = "no_port",
        /// Another process of this runtimeDir has the flows, or is about to have them.
        AnotherProcess = "another_process",
        /// CAP_NET_ADMIN is missing.
        NotPermitted = "not_permitted",
        /// A system call failed otherwise.
        Failed = "failed",
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
    fn labels_are_unique() {
        let mut labels = Fallback::ALL.map(Fallback::label);
        labels.sort_unstable();
        assert!(labels.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
