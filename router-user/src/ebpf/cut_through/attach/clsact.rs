//! Filters of the clsact qdisc: behind all tcx programs and behind filters with a smaller preference. Replacing one of
//! the same handle is atomic (net/sched/cls_bpf.c, cls_bpf_change). Its kernel needs CAP_NET_ADMIN alone.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya::programs::TcAttachType;
use router_common::cut_through::SET;

use crate::ebpf::netlink::{Message, Netlink, words};

/// Attaches the program, or has the filter that is there run it.
pub(super) fn attach(program: BorrowedFd<'_>, name: &str, interface: u32, direction: TcAttachType) -> io::Result<()> {
    let mut netlink = Netlink::route()?;
    let qdisc = header(interface, CLSACT_HANDLE, TC_H_CLSACT, 0);
    match netlink.request(Message::new(RTM_NEWQDISC, CREATE | EXCLUSIVELY).bytes(&qdisc).text(TCA_KIND, "clsact")) {
        // Somebody uses it already.
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        result => result?,
    }
    netlink.request(
        Message::new(RTM_NEWTFILTER, CREATE)
            .bytes(&header(interface, SET.layout, parent(direction), INFO))
            .text(TCA_KIND, "bpf")
            .nested(TCA_OPTIONS, |message| {
                message
                    .attribute(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes())
                    .text(TCA_BPF_NAME, name)
                    .attribute(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes())
            }),
    )
}

/// Removes the filter of a layout.
pub(super) fn detach(layout: u32, interface: u32, direction: TcAttachType) -> io::Result<()> {
    let header = header(interface, layout, parent(direction), INFO);
    Netlink::route()?.request(Message::new(RTM_DELTFILTER, 0).bytes(&header).text(TCA_KIND, "bpf"))
}

/// struct tcmsg (include/uapi/linux/rtnetlink.h).
fn header(interface: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    words(&[0, interface, handle, parent, info])
}

/// TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS or TC_H_MIN_EGRESS).
fn parent(direction: TcAttachType) -> u32 {
    if direction == TcAttachType::Ingress { 0xffff_fff2 } else { 0xffff_fff3 }
}

/// Preference 41000 of all protocols: what an administrator numbers comes first.
const INFO: u32 = 41_000 << 16 | (ETH_P_ALL.to_be() as u32);
const ETH_P_ALL: u16 = 3;

/// include/uapi/linux/rtnetlink.h, pkt_sched.h, pkt_cls.h.
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const CREATE: u16 = 0x400;
const EXCLUSIVELY: u16 = 0x200;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const DIRECT_ACTION: u32 = 1;
