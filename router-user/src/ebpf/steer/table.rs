//! From listeners to the keys of the program's maps. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use aya::maps::lpm_trie::Key;
use config::{Listener, PortRange};
use ipnet::{IpNet, Ipv4Net};
use router_common::steer::{
    BOUND, DENIED_KEY_BITS, DeniedKey, Destination, FAMILY_IPV4, FAMILY_IPV6, NO_LISTENER, PORT_KEY_BITS,
    PREFIX_KEY_BITS, PortKey, PrefixKey, STEER,
};

/// What the maps hold.
#[derive(Default)]
pub(super) struct Table {
    pub(super) prefixes: Vec<(Key<PrefixKey>, u32)>,
    pub(super) ports: Vec<(Key<PortKey>, Destination)>,
    pub(super) denied: Vec<Key<DeniedKey>>,
}

impl Table {
    /// Of prefixes that cover an address, the longest one that has the port has the connection. On the same prefix a
    /// bound address keeps its port. A listener without `steer` keeps its address and answers denied clients itself.
    pub(super) fn new(listeners: &[Listener], bound: &[SocketAddr], admin: Option<SocketAddr>) -> Self {
        let mut table = Self::default();
        let mut claims: HashMap<IpNet, Vec<Segment>> = HashMap::new();
        let mut claim = |prefix, ports, destination| {
            claims.entry(prefix).or_default().push(Segment { ports, destination });
        };
        for (index, listener) in (0..).zip(listeners).filter(|(_, listener)| !listener.steer.is_empty()) {
            for steer in &listener.steer {
                claim(steer.prefix.trunc(), steer.ports, Destination { listener: index, action: STEER });
            }
            // What a proxy connects for is denied or not by the address that it tells.
            let told = !listener.proxy_protocol_from.is_empty();
            for denied in listener.clients.deny.iter().filter(|_| !told) {
                let (family, address, bits) = key_of(denied);
                table.denied.push(Key::new(DENIED_KEY_BITS + bits, DeniedKey { listener: index, family, address }));
            }
        }
        let listeners = (0..).zip(listeners).map(|(index, l)| if l.steer.is_empty() { NO_LISTENER } else { index });
        for (listener, address) in listeners.zip(bound).chain(admin.iter().map(|address| (NO_LISTENER, address))) {
            let ports = PortRange { first: address.port(), last: address.port() };
            for prefix in prefixes_of(address.ip()) {
                claim(prefix, ports, Destination { listener, action: BOUND });
            }
        }
        table.number(claims);
        table
    }

    /// Shorter prefixes first, so that the longer ones inherit from them.
    fn number(&mut self, claims: HashMap<IpNet, Vec<Segment>>) {
        let mut claims: Vec<_> = claims.into_iter().collect();
        claims.sort_by_key(|(prefix, _)| (prefix.prefix_len(), *prefix));
        let mut done: HashMap<IpNet, Vec<Segment>> = HashMap::new();
        for (number, (prefix, own)) in (0..).zip(claims) {
            let nearest = std::iter::successors(prefix.supernet(), IpNet::supernet).find_map(|wider| done.get(&wider));
            let mut segments = nearest.cloned().unwrap_or_default();
            for segment in own {
                lay_over(&mut segments, segment);
            }
            let (family, address, bits) = key_of(&prefix);
            self.prefixes.push((Key::new(PREFIX_KEY_BITS + bits, PrefixKey { family, address }), number));
            for Segment { ports, destination } in &segments {
                for (port, bits) in blocks(*ports) {
                    let key = PortKey { prefix: number, port: port.to_be_bytes(), zero: [0; 2] };
                    self.ports.push((Key::new(PORT_KEY_BITS + bits, key), *destination));
                }
            }
            done.insert(prefix, segments);
        }
    }
}

/// Ports of one prefix and where they lead; no two of a prefix overlap.
#[derive(Clone, Copy, Debug)]
struct Segment {
    ports: PortRange,
    destination: Destination,
}

/// The new segment has its ports; what it does not cover stays with who had it.
fn lay_over(segments: &mut Vec<Segment>, new: Segment) {
    let mut kept = Vec::with_capacity(segments.len() + 2);
    for Segment { ports, destination } in segments.drain(..) {
        if ports.first < new.ports.first {
            let last = ports.last.min(new.ports.first - 1);
            kept.push(Segment { ports: PortRange { first: ports.first, last }, destination });
        }
        if ports.last > new.ports.last {
            let first = ports.first.max(new.ports.last + 1);
            kept.push(Segment { ports: PortRange { first, last: ports.last }, destination });
        }
    }
    kept.push(new);
    *segments = kept;
}

/// The fewest aligned blocks of ports that make up a range, each with its number of leading bits.
fn blocks(ports: PortRange) -> Vec<(u16, u32)> {
    let mut blocks = Vec::new();
    let (mut next, end) = (u32::from(ports.first), u32::from(ports.last) + 1);
    while next < end {
        // Port 0 is in no range, so `next` always has a lowest bit.
        let size = (1_u32 << next.trailing_zeros()).min(1 << (end - next).ilog2());
        blocks.push((next as u16, u16::BITS - size.ilog2()));
        next += size;
    }
    blocks
}

/// What a bound address covers: `[::]` takes IPv4 too.
fn prefixes_of(address: IpAddr) -> Vec<IpNet> {
    let everything = IpNet::from(Ipv4Net::default());
    match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => vec![everything],
        IpAddr::V6(address) if address.is_unspecified() => vec![everything, IpNet::V6(ipnet::Ipv6Net::default())],
        address => vec![address.into()],
    }
}

fn key_of(prefix: &IpNet) -> (u32, [u8; 16], u32) {
    let bits = prefix.prefix_len().into();
    match prefix.trunc() {
        IpNet::V4(prefix) => {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&prefix.addr().octets());
            (FAMILY_IPV4, address, bits)
        }
        IpNet::V6(prefix) => (FAMILY_IPV6, prefix.addr().octets(), bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener per line of `steer`, at 127.0.0.1:1, :2 and so on.
    fn table(steers: &[&str], admin: Option<&str>) -> Table {
        let listeners: Vec<Listener> = (1..).zip(steers).map(|(port, steer)| listener(port, steer)).collect();
        let bound: Vec<SocketAddr> = listeners.iter().map(|listener| listener.address).collect();
        Table::new(&listeners, &bound, admin.map(|admin| admin.parse().unwrap()))
    }

    fn listener(port: u16, steer: &str) -> Listener {
        let yaml = format!(
            "listeners: [{{ name: l, address: \"[::]:{port}\", steer: [{steer}], clients: {{ deny: [192.0.2.0/24] }} }}]\n\
             tenants: [{{ name: t, hostnames: [t.example], mode: Passthrough, backends: [{{ address: \"127.0.0.1:1\" }}] }}]"
        );
        let mut listener = config::Config::from_yaml(&yaml).unwrap().listeners.remove(0);
        listener.address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        listener
    }

    /// Does what the program does with the maps.
    fn look_up(table: &Table, destination: &str) -> Option<(u32, u32)> {
        let destination: SocketAddr = destination.parse().unwrap();
        let (family, address, bits) = key_of(&destination.ip().into());
        let covers = |key: &[u8], bits: u32, wanted: &[u8]| {
            (0..bits as usize).all(|bit| (key[bit / 8] ^ wanted[bit / 8]) & (0x80 >> (bit % 8)) == 0)
        };
        let (_, number) = table
            .prefixes
            .iter()
            .filter(|(key, _)| {
                let (prefix, length) = (key.data(), key.prefix_len() - PREFIX_KEY_BITS);
                prefix.family == family && length <= bits && covers(&prefix.address, length, &address)
            })
            .max_by_key(|(key, _)| key.prefix_len())?;
        let port = destination.port().to_be_bytes();
        let (_, found) = table
            .ports
            .iter()
            .filter(|(key, _)| {
                key.data().prefix == *number && covers(&key.data().port, key.prefix_len() - PORT_KEY_BITS, &port)
            })
            .max_by_key(|(key, _)| key.prefix_len())?;
        Some((found.listener, found.action))
    }

    #[test]
    fn a_range_is_a_few_aligned_blocks() {
        assert_eq!(blocks(PortRange { first: 443, last: 443 }), [(443, 16)]);
        assert_eq!(blocks(PortRange { first: 8000, last: 8999 }).len(), 6);
        let all = blocks(PortRange { first: 1, last: 65535 });
        let ports: u32 = all.iter().map(|(_, bits)| 1 << (16 - bits)).sum();
        assert_eq!((all.len(), ports), (16, 65535));
    }

    #[test]
    fn every_port_of_a_range_and_no_other_is_steered() {
        let table = table(&["\"198.51.100.0/24:8000-8999\""], None);
        for (port, found) in [(7999, None), (8000, Some((0, STEER))), (8999, Some((0, STEER))), (9000, None)] {
            assert_eq!(look_up(&table, &format!("198.51.100.7:{port}")), found, "{port}");
        }
        assert_eq!(look_up(&table, "198.51.101.7:8000"), None);
    }

    #[test]
    fn a_longer_prefix_has_its_ports_and_leaves_the_others_to_the_shorter_one() {
        let table = table(&["\"10.0.0.0/8:443\", \"10.0.0.0/8:8000-8999\"", "\"10.1.0.0/16:8500\""], None);
        assert_eq!(look_up(&table, "10.1.2.3:8500"), Some((1, STEER)));
        assert_eq!(look_up(&table, "10.1.2.3:8501"), Some((0, STEER)));
        assert_eq!(look_up(&table, "10.1.2.3:443"), Some((0, STEER)));
        assert_eq!(look_up(&table, "10.2.2.3:8500"), Some((0, STEER)));
    }

    #[test]
    fn bound_addresses_stay_with_their_owners() {
        let table = table(&["\"127.0.0.0/8:1-65535\"", ""], Some("127.0.0.1:9901"));
        assert_eq!(look_up(&table, "127.0.0.1:1"), Some((0, BOUND)), "denied sources are refused there too");
        assert_eq!(look_up(&table, "127.0.0.1:2"), Some((NO_LISTENER, BOUND)), "its listener has no steer");
        assert_eq!(look_up(&table, "127.0.0.1:9901"), Some((NO_LISTENER, BOUND)));
        assert_eq!(look_up(&table, "127.0.0.2:9901"), Some((0, STEER)));
    }

    #[test]
    fn a_wildcard_address_is_bound_in_both_families() {
        let mut listeners = vec![listener(443, "\"[2001:db8::/64]:443\"")];
        listeners[0].address = "[::]:443".parse().unwrap();
        let table = Table::new(&listeners, &[listeners[0].address], None);
        assert_eq!(look_up(&table, "192.0.2.1:443"), Some((0, BOUND)));
        assert_eq!(look_up(&table, "[2001:db8:1::1]:443"), Some((0, BOUND)));
        assert_eq!(look_up(&table, "[2001:db8::1]:443"), Some((0, STEER)));
    }

    #[test]
    fn only_listeners_that_steer_refuse_in_the_kernel() {
        let table = table(&["\"10.0.0.0/8:443\"", ""], None);
        let keys: Vec<_> = table.denied.iter().map(|key| (key.data().listener, key.prefix_len())).collect();
        assert_eq!(keys, [(0, DENIED_KEY_BITS + 24)]);
    }

    #[test]
    fn a_proxy_is_never_refused_for_whom_it_connects() {
        let mut behind_proxies = listener(443, "\"10.0.0.0/8:443\"");
        behind_proxies.proxy_protocol_from = vec!["192.0.2.0/28".parse().unwrap()];
        let bound = [behind_proxies.address];
        assert!(Table::new(&[behind_proxies], &bound, None).denied.is_empty());
    }
}
