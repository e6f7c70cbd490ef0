//! Three hosts in a row, each a network namespace of its own: client, router, backend. They last as long as the thread
//! that made them.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sched::{CloneFlags, setns, unshare};

use super::of;
use crate::ebpf::netlink::{Message, Netlink, words};

/// The thread that made it is at the router.
pub(super) struct Site {
    client: File,
    router: File,
    backend: File,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

/// One of the hosts besides the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Backend,
}

impl Site {
    /// Two veth pairs, up and with addresses.
    pub(super) fn new() -> io::Result<Self> {
        let (client, backend, router) = (namespace()?, namespace()?, namespace()?);
        let site = Self { client, router, backend };
        let mut netlink = Netlink::route()?;
        for end in [End::Client, End::Backend] {
            netlink.request(veth(end.link(), site.namespace(end)))?;
        }
        for end in [End::Client, End::Backend] {
            bring_up(end.link(), |family| family.router(end))?;
            site.at(end, || bring_up(LINK, |family| family.host(end)))??;
        }
        Ok(site)
    }

    /// Does something elsewhere than at the router. Sockets that are made there belong there.
    pub(super) fn at<T>(&self, end: End, work: impl FnOnce() -> T) -> io::Result<T> {
        setns(self.namespace(end), CloneFlags::CLONE_NEWNET)?;
        let done = work();
        setns(&self.router, CloneFlags::CLONE_NEWNET)?;
        Ok(done)
    }

    /// The families that this host speaks, when links and addresses are ready.
    pub(super) fn families(&self, deadline: Instant) -> Result<Vec<Family>, String> {
        let mut families = vec![Family::Ipv4];
        let ipv6 = |address| matches!(address, IpAddr::V6(_));
        let speaks_ipv6 = getifaddrs().map_err(|error| of("list the addresses")(error.into()))?.any(|found| {
            let address = found.address.and_then(|address| Some(IpAddr::V6(address.as_sockaddr_in6()?.ip())));
            address.is_some_and(ipv6) && address == Some(Family::Ipv6.router(End::Client))
        });
        if speaks_ipv6 {
            families.push(Family::Ipv6);
        }
        for end in [End::Client, End::Backend] {
            let wait = |link: &str, address: fn(Family, End) -> IpAddr| {
                until(deadline, || ready(link, families.iter().map(|family| address(*family, end))))
            };
            wait(end.link(), Family::router)?;
            self.at(end, || wait(LINK, Family::host)).map_err(of("enter a network namespace"))??;
        }
        Ok(families)
    }

    fn namespace(&self, end: End) -> &File {
        match end {
            End::Client => &self.client,
            End::Backend => &self.backend,
        }
    }
}

impl End {
    /// The router's interface towards it.
    pub(super) fn link(self) -> &'static str {
        match self {
            Self::Client => "to-client",
            Self::Backend => "to-backend",
        }
    }
}

impl Family {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    /// The router's address towards an end. All addresses are for documentation (RFC 5737, RFC 3849).
    pub(super) fn router(self, end: End) -> IpAddr {
        self.address(end, 1)
    }

    /// The address of an end.
    pub(super) fn host(self, end: End) -> IpAddr {
        self.address(end, 2)
    }

    fn address(self, end: End, host: u8) -> IpAddr {
        match (self, end) {
            (Self::Ipv4, End::Client) => Ipv4Addr::new(192, 0, 2, host).into(),
            (Self::Ipv4, End::Backend) => Ipv4Addr::new(198, 51, 100, host).into(),
            (Self::Ipv6, End::Client) => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host.into()).into(),
            (Self::Ipv6, End::Backend) => Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host.into()).into(),
        }
    }
}

/// The calling thread is in it afterwards.
fn namespace() -> io::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    File::open("/proc/thread-self/ns/net")
}

/// A pair of interfaces: `name` here, [`LINK`] there.
fn veth(name: &str, there: &File) -> Message {
    use std::os::fd::AsRawFd;
    let peer = |message: Message| {
        message.bytes(&link(0, 0)).text(IFLA_IFNAME, LINK).attribute(IFLA_NET_NS_FD, &there.as_raw_fd().to_ne_bytes())
    };
    let pair = |message: Message| message.nested(VETH_INFO_PEER, peer);
    Message::new(RTM_NEWLINK, CREATE)
        .bytes(&link(0, 0))
        .text(IFLA_IFNAME, name)
        .nested(IFLA_LINKINFO, |message| message.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, pair))
}

/// struct ifinfomsg (include/uapi/linux/rtnetlink.h); the flags are set.
fn link(index: u32, flags: u32) -> Vec<u8> {
    words(&[0, index, flags, flags])
}

/// With its addresses. Where the host has no IPv6 there is nothing to be tested of it.
fn bring_up(name: &str, address: impl Fn(Family) -> IpAddr) -> io::Result<()> {
    let index = if_nametoindex(name)?;
    let mut netlink = Netlink::route()?;
    netlink.request(Message::new(RTM_NEWLINK, 0).bytes(&link(index, IFF_UP)))?;
    netlink.request(new_address(index, address(Family::Ipv4)))?;
    match netlink.request(new_address(index, address(Family::Ipv6))) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EACCES | libc::EAFNOSUPPORT)) => {
            Ok(())
        }
        result => result,
    }
}

fn new_address(index: u32, address: IpAddr) -> Message {
    let (family, prefix, bytes) = match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, 24, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, 64, address.octets().to_vec()),
    };
    // struct ifaddrmsg; nobody else can have the address.
    let header = [&[family, prefix, IFA_F_NODAD, 0][..], &index.to_ne_bytes()].concat();
    Message::new(RTM_NEWADDR, CREATE).bytes(&header).attribute(IFA_LOCAL, &bytes).attribute(IFA_ADDRESS, &bytes)
}

/// Whether the interface has found its peer, and the addresses can be used.
fn ready(link: &str, mut addresses: impl Iterator<Item = IpAddr>) -> bool {
    let running = |flags: InterfaceFlags| flags.contains(InterfaceFlags::IFF_RUNNING);
    let Ok(mut interfaces) = getifaddrs() else { return false };
    interfaces.any(|found| found.interface_name == link && running(found.flags))
        && addresses.all(|address| UdpSocket::bind((address, 0)).is_ok())
}

fn until(deadline: Instant, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    while !condition() {
        if Instant::now() > deadline {
            return Err("links and addresses are not ready".to_owned());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The interface of client and backend.
pub(super) const LINK: &str = "to-router";

/// include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h, veth.h and netlink.h (NLM_F_CREATE and NLM_F_EXCL).
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const CREATE: u16 = 0x600;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
