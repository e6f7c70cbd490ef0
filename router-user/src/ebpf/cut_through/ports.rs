//! Source ports for connections to backends: from ranges that the kernel never hands out by itself, because after the
//! switch no socket holds them any more.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// All ports, and for each backend those that no flow uses. The longest unused one is given out first.
#[derive(Debug)]
pub(super) struct Ports {
    usable: Vec<u16>,
    free: Mutex<HashMap<SocketAddr, VecDeque<u16>>>,
}

impl Ports {
    /// By the settings of this network namespace; without the ports in `used`.
    pub(super) fn new(used: &HashSet<(SocketAddr, u16)>) -> Self {
        let setting = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        let usable = usable(&setting("ip_local_port_range"), &setting("ip_local_reserved_ports"));
        let mut free: HashMap<SocketAddr, VecDeque<u16>> = HashMap::new();
        for (backend, _) in used {
            let unused = usable.iter().copied().filter(|port| !used.contains(&(*backend, *port)));
            free.entry(*backend).or_insert_with(|| unused.collect());
        }
        Self { usable, free: Mutex::new(free) }
    }

    /// How many connections to one backend there can be.
    pub(super) fn per_backend(&self) -> usize {
        self.usable.len()
    }

    pub(super) fn take(&self, backend: SocketAddr) -> Option<u16> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.entry(backend).or_insert_with(|| self.usable.iter().copied().collect()).pop_front()
    }

    pub(super) fn give_back(&self, backend: SocketAddr, port: u16) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = free.get_mut(&backend) {
            free.push_back(port);
        }
    }
}

/// Ports from [`LOWEST`] on that are outside of the kernel's own range or reserved (ip-sysctl: ip_local_port_range has
/// two numbers, ip_local_reserved_ports a list of numbers and ranges).
fn usable(local_range: &str, reserved: &str) -> Vec<u16> {
    let mut bounds = local_range.split_whitespace().map_while(|number| number.parse::<u16>().ok());
    let local = match (bounds.next(), bounds.next()) {
        (Some(first), Some(last)) => first..=last,
        // An unreadable setting leaves nothing that is known to be ours.
        _ => 0..=u16::MAX,
    };
    let reserved: Vec<_> = reserved
        .trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
        })
        .collect();
    let ours = |port: &u16| !local.contains(port) || reserved.iter().any(|range| range.contains(port));
    (LOWEST..=u16::MAX).filter(ours).collect()
}

/// Below are the ports of well-known services, on which somebody may want to listen.
const LOWEST: u16 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_hands_out_is_left_to_it() {
        let ports = usable("32768\t60999\n", "");
        assert_eq!((ports.first(), ports.last(), ports.len()), (Some(&16_384), Some(&65_535), 16_384 + 4_536));
        assert!(!ports.contains(&32_768) && !ports.contains(&60_999));
    }

    #[test]
    fn reserved_ports_are_ours() {
        assert_eq!(usable("1024\t65535", "20000-20002,30000\n"), [20_000, 20_001, 20_002, 30_000]);
        assert_eq!(usable("1024\t65535", "\n"), [] as [u16; 0]);
        assert_eq!(usable("", ""), [] as [u16; 0]);
    }

    #[test]
    fn a_port_is_given_out_once_and_the_longest_unused_first() {
        let backend = SocketAddr::from(([10, 0, 2, 2], 443));
        let ports = Ports { usable: vec![1, 2, 3], free: Mutex::default() };
        assert_eq!((ports.take(backend), ports.take(backend)), (Some(1), Some(2)));
        ports.give_back(backend, 1);
        assert_eq!((ports.take(backend), ports.take(backend), ports.take(backend)), (Some(3), Some(1), None));
        assert_eq!(ports.take(SocketAddr::from(([10, 0, 2, 3], 443))), Some(1));
    }

    #[test]
    fn ports_of_adopted_flows_are_not_given_out() {
        let backend = SocketAddr::from(([10, 0, 2, 2], 443));
        let ports = Ports::new(&HashSet::from([(backend, 20_000)]));
        let given: Vec<_> = std::iter::from_fn(|| ports.take(backend)).collect();
        assert!(!given.contains(&20_000) && given.len() + 1 >= ports.per_backend());
    }
}
