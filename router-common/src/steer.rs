//! The contract of the program `steer` (sk_lookup). A lookup goes from the destination's prefix to that prefix's number,
//! from number and port to a [`Destination`], from the listener and the source to a refusal or not, and from listener
//! and worker to a listening socket.

use crate::ProgramSet;

/// Pins no map: a new process brings its own and has the link run its own program.
pub const SET: ProgramSet =
    ProgramSet { name: PROGRAM, maps: &[PREFIXES, PORTS, DENIED, SOCKETS, VERDICTS], layout: 0 };

/// The program; also the value of the label `program` in metrics.
pub const PROGRAM: &str = "steer";

/// Longest-prefix match of [`PrefixKey`] to the prefix's number, a `u32`.
pub const PREFIXES: &str = "STEER_PREFIXES";
/// Longest-prefix match of [`PortKey`] to [`Destination`].
pub const PORTS: &str = "STEER_PORTS";
/// Longest-prefix match of [`DeniedKey`] to a `u32` that nobody reads.
pub const DENIED: &str = "STEER_DENIED";
/// Listening sockets, at [`slot`].
pub const SOCKETS: &str = "STEER_SOCKETS";
/// One `u64` per CPU and [`Verdict`].
pub const VERDICTS: &str = "STEER_VERDICTS";
/// The read-only global with the number of workers, a `u32`.
pub const WORKERS: &str = "STEER_WORKERS";

/// The destination address of a lookup.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixKey {
    /// [`FAMILY_IPV4`] or [`FAMILY_IPV6`], native byte order; always matched whole.
    pub family: u32,
    /// In network byte order; an IPv4 address has the first four bytes, the others are 0.
    pub address: [u8; 16],
}

/// A port below a prefix. A range of ports is several keys with fewer bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortKey {
    /// The prefix's number, native byte order; always matched whole.
    pub prefix: u32,
    /// In network byte order.
    pub port: [u8; 2],
    /// Always 0, never matched; it keeps the size a multiple of the alignment.
    pub zero: [u8; 2],
}

/// A source address that a listener may refuse.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeniedKey {
    /// The listener's index, native byte order; always matched whole.
    pub listener: u32,
    /// As in [`PrefixKey`].
    pub family: u32,
    /// As in [`PrefixKey`].
    pub address: [u8; 16],
}

/// Where a connection to a prefix and port belongs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The listener's index, or [`NO_LISTENER`]; native byte order.
    pub listener: u32,
    /// [`STEER`] or [`BOUND`], native byte order.
    pub action: u32,
}

/// How a lookup of the program ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A listening socket of the router gets the connection.
    Steered = 0,
    /// The source is denied: the client's SYN is answered with a RST.
    Denied = 1,
    /// The destination is a bound address of the router: the kernel's own lookup goes on.
    Bound = 2,
    /// The destination is none of the router's: the kernel's own lookup goes on.
    Unmatched = 3,
    /// The worker's socket is closed, as in a drain: the kernel's own lookup goes on.
    NoSocket = 4,
}

impl Verdict {
    /// All verdicts, each at the position of its discriminant.
    pub const ALL: [Self; 5] = [Self::Steered, Self::Denied, Self::Bound, Self::Unmatched, Self::NoSocket];

    /// The value of the label `verdict` in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Steered => "steered",
            Self::Denied => "denied",
            Self::Bound => "bound",
            Self::Unmatched => "unmatched",
            Self::NoSocket => "no_socket",
        }
    }
}

/// Where the socket of a listener and a worker is in [`SOCKETS`].
#[inline]
pub const fn slot(listener: u32, worker: u32, workers: u32) -> u32 {
    listener.wrapping_mul(workers).wrapping_add(worker)
}

/// AF_INET (include/linux/socket.h).
pub const FAMILY_IPV4: u32 = 2;
/// AF_INET6 (include/linux/socket.h).
pub const FAMILY_IPV6: u32 = 10;

/// The connection goes to the listener's socket.
pub const STEER: u32 = 1;
/// The connection reaches the listener without help; it is only refused when the source is denied.
pub const BOUND: u32 = 2;

/// Belongs to an address that is no listener's, such as the admin endpoint's: no source is denied.
pub const NO_LISTENER: u32 = u32::MAX;

/// Bits before the address in [`PrefixKey`].
pub const PREFIX_KEY_BITS: u32 = 32;
/// Bits before the port in [`PortKey`].
pub const PORT_KEY_BITS: u32 = 32;
/// Bits before the address in [`DeniedKey`].
pub const DENIED_KEY_BITS: u32 = 64;

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn keys_and_values_have_no_padding() {
        assert_eq!((size_of::<PrefixKey>(), align_of::<PrefixKey>()), (4 + 16, 4));
        assert_eq!((size_of::<PortKey>(), align_of::<PortKey>()), (4 + 2 + 2, 4));
        assert_eq!((size_of::<DeniedKey>(), align_of::<DeniedKey>()), (4 + 4 + 16, 4));
        assert_eq!((size_of::<Destination>(), align_of::<Destination>()), (4 + 4, 4));
    }

    #[test]
    fn what_is_matched_by_bits_comes_last() {
        assert_eq!(offset_of!(PrefixKey, address) * 8, PREFIX_KEY_BITS as usize);
        assert_eq!(offset_of!(PortKey, port) * 8, PORT_KEY_BITS as usize);
        assert_eq!(offset_of!(DeniedKey, family), 4);
        assert_eq!(offset_of!(DeniedKey, address) * 8, DENIED_KEY_BITS as usize);
        assert_eq!(offset_of!(Destination, action), 4);
    }

    #[test]
    fn verdicts_are_positions() {
        assert!(Verdict::ALL.iter().enumerate().all(|(position, verdict)| position == *verdict as usize));
    }

    #[test]
    fn map_names_fit_the_kernel() {
        // BPF_OBJ_NAME_LEN (include/uapi/linux/bpf.h) is 16 with the NUL.
        assert!([PREFIXES, PORTS, DENIED, SOCKETS, VERDICTS].iter().all(|name| name.len() < 16));
    }
}
