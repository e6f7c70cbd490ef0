//! netlink(7): requests to the kernel's network configuration, each with its acknowledgement. What is asked for is the
//! callers' business.

mod message;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

pub(super) use self::message::{Message, words};

/// A socket that belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// For interfaces, addresses and traffic control.
    pub(super) fn route() -> io::Result<Self> {
        Self::open(NETLINK_ROUTE, 0)
    }

    /// For conntrack.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(Some(NETFILTER), 0)
    }

    /// Hears of changes of interfaces; see [`heard`](Self::heard).
    pub(super) fn link_changes() -> io::Result<Self> {
        Self::open(NETLINK_ROUTE, RTMGRP_LINK)
    }

    fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one request and waits for its acknowledgement.
    pub(super) fn request(&mut self, message: Message) -> io::Result<()> {
        match self.requests(vec![message])?.pop() {
            Some(result) => result,
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends requests in one go; the results are in their order. The kernel works them off before the call returns, so
    /// that the answers are there.
    pub(super) fn requests(&mut self, messages: Vec<Message>) -> io::Result<Vec<io::Result<()>>> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let mut results: Vec<io::Result<()>> = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.finish(self.sequence, &mut bytes);
            results.push(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        sendto(&self.socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answered = 0;
        let mut buffer = vec![0; RECEIVE];
        while answered < results.len() {
            let (_, length) = recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
            for (sequence, result) in message::acknowledgements(&buffer[..length.min(RECEIVE)]) {
                if let Some(place) = results.get_mut(sequence.wrapping_sub(first) as usize) {
                    *place = result;
                    answered += 1;
                }
            }
        }
        Ok(results)
    }

    /// Whether anything was said since the last call. Says yes also when so much was said that some was lost.
    pub(super) fn heard(&self) -> bool {
        let mut heard = false;
        let mut buffer = [0; 8192];
        loop {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok(_) | Err(rustix::io::Errno::NOBUFS) => heard = true,
                Err(_) => return heard,
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Protocol number 0.
const NETLINK_ROUTE: Option<Protocol> = None;
/// An acknowledgement repeats its request; requests here are much smaller.
const RECEIVE: usize = 32 * 1024;
/// include/uapi/linux/rtnetlink.h.
const RTMGRP_LINK: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_its_own_answer() {
        // RTM_GETLINK of interfaces by index: loopback is there, the other one is not.
        let ask = |index: i32| {
            let header = [[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat();
            Message::new(18, message::ACKNOWLEDGE).bytes(&header)
        };
        let mut netlink = Netlink::route().unwrap();
        netlink.request(ask(i32::MAX)).unwrap_err();
        netlink.request(ask(1)).unwrap();
    }
}
