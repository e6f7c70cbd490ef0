//! The kernel's table of tracked connections, where a firewall or NAT uses it: the two connections of a flow are deleted
//! from it when the programs carry them, because nothing that would end their entries passes it any more. An entry of an
//! established connection would stay for five days (nf_conntrack_tcp_timeout_established).

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tracing::warn;

use crate::ebpf::netlink::{Message, Netlink};

/// Who forgets connections. Of the network namespace of the thread that uses it.
#[derive(Debug, Default)]
pub(super) struct Conntrack {
    netlink: Option<Netlink>,
    warned: bool,
}

impl Conntrack {
    /// Deletes connections, by who began each and to whom; those that are not tracked are none of its business.
    pub(super) fn forget(&mut self, connections: &[(SocketAddr, SocketAddr)]) {
        // To ask a kernel that tracks nothing would have it load the module.
        if connections.is_empty() || tracked() == 0 {
            return;
        }
        if let Err(error) = self.delete(connections)
            && !self.warned
        {
            self.warned = true;
            warn!(%error, "cut-through: conntrack entries of flows stay until they are too old");
        }
    }

    fn delete(&mut self, connections: &[(SocketAddr, SocketAddr)]) -> io::Result<()> {
        let netlink = match &mut self.netlink {
            Some(netlink) => netlink,
            none => none.insert(Netlink::netfilter()?),
        };
        for some in connections.chunks(AT_A_TIME) {
            let messages = some.iter().map(|(from, to)| message(*from, *to)).collect();
            for result in netlink.requests(messages)? {
                match result {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// How many connections of this network namespace are tracked.
fn tracked() -> u64 {
    fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")
        .map_or(0, |count| count.trim().parse().unwrap_or(0))
}

/// Deletes the connection that `from` began.
fn message(from: SocketAddr, to: SocketAddr) -> Message {
    let family = if from.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let [source, destination] = if from.is_ipv4() { CTA_IPV4 } else { CTA_IPV6 };
    let addresses = |message: Message| message.attribute(source, &octets(from)).attribute(destination, &octets(to));
    let protocol = |message: Message| {
        message
            .attribute(CTA_PROTO_NUM, &[libc::IPPROTO_TCP as u8])
            .attribute(CTA_PROTO_SRC_PORT, &from.port().to_be_bytes())
            .attribute(CTA_PROTO_DST_PORT, &to.port().to_be_bytes())
    };
    // struct nfgenmsg: family, version, resource.
    Message::new(IPCTNL_MSG_CT_DELETE, 0).bytes(&[family as u8, 0, 0, 0]).nested(CTA_TUPLE_ORIG | NESTED, |message| {
        message.nested(CTA_TUPLE_IP | NESTED, addresses).nested(CTA_TUPLE_PROTO | NESTED, protocol)
    })
}

fn octets(address: SocketAddr) -> Vec<u8> {
    match address.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The answers to so many requests fit into the socket's buffer.
const AT_A_TIME: usize = 64;
/// include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h; the type has the subsystem in its upper half.
const IPCTNL_MSG_CT_DELETE: u16 = 1 << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IPV4: [u16; 2] = [1, 2];
const CTA_IPV6: [u16; 2] = [3, 4];
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// NLA_F_NESTED (include/uapi/linux/netlink.h).
const NESTED: u16 = 1 << 15;
