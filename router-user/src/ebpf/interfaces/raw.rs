//! ioctl(2) on interfaces: the kind of hardware and the features of ethtool. The only unsafe code about interfaces.
#![expect(unsafe_code, reason = "ioctl(2) with pointers to its arguments; see the SAFETY comments")]

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// A socket through which interfaces of its network namespace are asked.
pub(super) struct Control(OwnedFd);

impl Control {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?))
    }

    /// ARPHRD_* (include/uapi/linux/if_arp.h).
    pub(super) fn hardware_type(&self, interface: &str) -> io::Result<u16> {
        let mut request = request(interface)?;
        // SAFETY: the descriptor is open; SIOCGIFHWADDR reads the name and writes the union's ifru_hwaddr.
        unsafe {
            if libc::ioctl(self.0.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(request.ifr_ifru.ifru_hwaddr.sa_family)
        }
    }

    /// The names of the features that are on, as `ethtool -k` has them.
    pub(super) fn active_features(&self, interface: &str) -> io::Result<HashSet<String>> {
        let mut count = SetCount { command: ETHTOOL_GSSET_INFO, mask: 1 << ETH_SS_FEATURES, ..SetCount::default() };
        self.ethtool(interface, &mut count)?;
        if count.mask == 0 || count.count as usize > MOST_FEATURES {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut names = Names {
            command: ETHTOOL_GSTRINGS,
            set: ETH_SS_FEATURES,
            length: count.count,
            names: [[0; 32]; MOST_FEATURES],
        };
        self.ethtool(interface, &mut names)?;
        let mut features = Features {
            command: ETHTOOL_GFEATURES,
            blocks: (MOST_FEATURES / 32) as u32,
            features: [Block::default(); MOST_FEATURES / 32],
        };
        self.ethtool(interface, &mut features)?;
        let active = |place: &usize| features.features[place / 32].active & 1 << (place % 32) != 0;
        let name = |place: usize| {
            let bytes: Vec<u8> = names.names[place].iter().copied().take_while(|byte| *byte != 0).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok((0..count.count as usize).filter(active).map(name).collect())
    }

    pub(super) fn set_transmit_checksums(&self, interface: &str, on: bool) -> io::Result<()> {
        self.ethtool(interface, &mut Value { command: ETHTOOL_STXCSUM, data: u32::from(on) })
    }

    /// `T` is the struct of the command in its first field.
    fn ethtool<T: EthtoolCommand>(&self, interface: &str, command: &mut T) -> io::Result<()> {
        let mut request = request(interface)?;
        request.ifr_ifru.ifru_data = std::ptr::from_mut(command).cast();
        // SAFETY: the descriptor is open; the pointer is to the struct that the command in it takes, which lives until
        // the call returns, and which is as long as the kernel writes (see the impls of EthtoolCommand).
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn request(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain data for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = byte.cast_signed();
    }
    Ok(request)
}

/// # Safety
/// The struct begins with a command and is as long as the kernel reads and writes for it.
unsafe trait EthtoolCommand {}

// SAFETY: struct ethtool_value.
unsafe impl EthtoolCommand for Value {}
// SAFETY: struct ethtool_sset_info with room for the one number that one bit in the mask asks for.
unsafe impl EthtoolCommand for SetCount {}
// SAFETY: struct ethtool_gstrings; the kernel writes as many names as SetCount has told, which is checked.
unsafe impl EthtoolCommand for Names {}
// SAFETY: struct ethtool_gfeatures; the kernel writes no more blocks than there are said to be.
unsafe impl EthtoolCommand for Features {}

// The structs below are those of include/uapi/linux/ethtool.h.

#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

#[repr(C)]
#[derive(Default)]
struct SetCount {
    command: u32,
    reserved: u32,
    mask: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
struct Names {
    command: u32,
    set: u32,
    length: u32,
    names: [[u8; 32]; MOST_FEATURES],
}

#[repr(C)]
struct Features {
    command: u32,
    blocks: u32,
    features: [Block; MOST_FEATURES / 32],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Block {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

/// Twice of what Linux has (include/linux/netdev_features.h).
const MOST_FEATURES: usize = 128;
/// include/uapi/linux/sockios.h and include/uapi/linux/ethtool.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETH_SS_FEATURES: u32 = 4;
