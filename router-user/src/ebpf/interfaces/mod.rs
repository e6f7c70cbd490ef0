//! The interfaces of the network namespace: which there are, of what kind, and what they do to packets by themselves.

mod raw;

use std::io;

use nix::net::if_::if_nameindex;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// Its number, which is never used again.
    pub(super) index: u32,
    /// Its name, which may change.
    pub(super) name: String,
    /// Whether it carries Ethernet frames; loopback does not, and tunnels without frames do not.
    pub(super) ethernet: bool,
    /// Whether it merges packets that arrive so that they cannot be translated: see [`MERGING`].
    pub(super) merges: bool,
}

/// All interfaces of this thread's network namespace.
pub(super) fn list() -> io::Result<Vec<Interface>> {
    let control = raw::Control::open()?;
    let interfaces = if_nameindex()?;
    let look = |index: u32, name: String| {
        // One that vanishes meanwhile is of no kind.
        let ethernet = control.hardware_type(&name).is_ok_and(|kind| kind == ARPHRD_ETHER);
        let merges = ethernet
            && control.active_features(&name).is_ok_and(|active| MERGING.iter().any(|name| active.contains(*name)));
        Interface { index, name, ethernet, merges }
    };
    Ok(interfaces.iter().map(|found| look(found.index(), found.name().to_string_lossy().into_owned())).collect())
}

/// Whether the interface leaves checksums of what it sends to the hardware, and with them the cutting of large packets.
pub(super) fn set_transmit_checksums(name: &str, on: bool) -> io::Result<()> {
    raw::Control::open()?.set_transmit_checksums(name, on)
}

/// include/uapi/linux/if_arp.h.
const ARPHRD_ETHER: u16 = 1;
/// Names of features (net/ethtool/common.c). LRO keeps too little of the packets to cut them again; GRO by fragment list
/// keeps the headers of all, of which the translation would reach the first alone (net/ipv4/tcp_offload.c).
const MERGING: [&str; 2] = ["rx-lro", "rx-gro-list"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there_and_carries_no_frames() {
        let found = list().unwrap();
        let loopback = found.iter().find(|interface| interface.name == "lo").unwrap();
        assert_eq!((loopback.index, loopback.ethernet, loopback.merges), (1, false, false));
    }
}
