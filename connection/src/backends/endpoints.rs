//! The backends of one moment: what the configuration says, with names replaced by their addresses. Pure.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use config::{BackendAddress, BackendName, BackendTarget, Balance};

use super::balance::Picker;
use super::health::Health;

/// What names stand for, as far as that is known. No address: the name has none.
pub(super) type Answers = HashMap<BackendName, Arc<[IpAddr]>>;

/// Where a connection can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where the backend listens.
    pub address: SocketAddr,
    /// The name that led there; `None` where the configuration has the address.
    pub name: Option<BackendName>,
}

/// All endpoints at a time. Never changes: a name's new answer makes the next set.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub(super) list: Vec<Backend>,
    pub(super) picker: Picker,
    pub(super) answers: Answers,
    /// Backends whose names have no address, or have not been answered for.
    pub(super) without_address: Vec<BackendAddress>,
    /// Whether a name has not been answered for.
    pub(super) is_waiting: bool,
}

#[derive(Debug)]
pub(super) struct Backend {
    pub(super) endpoint: Endpoint,
    /// Share of the connections; 0 gets none.
    pub(super) weight: u16,
    pub(super) state: Arc<State>,
}

/// What is known of a backend. It outlives a change that keeps the backend.
#[derive(Debug)]
pub(super) struct State {
    /// Connections that were given to it and have not ended.
    pub(super) active: AtomicUsize,
    pub(super) health: Health,
}

impl Endpoints {
    /// Each address once, the first entry that leads there decides. Endpoints of `before` keep what is known of them;
    /// new ones are healthy until it is seen otherwise.
    pub(super) fn new(targets: &[BackendTarget], balance: Balance, answers: Answers, before: &[Backend]) -> Self {
        let known: HashMap<SocketAddr, &Arc<State>> =
            before.iter().map(|backend| (backend.endpoint.address, &backend.state)).collect();
        let mut seen = HashSet::new();
        let mut list = Vec::new();
        let mut push = |address: SocketAddr, name: Option<&BackendName>, weight| {
            if seen.insert(address) {
                let state = known.get(&address).map_or_else(State::new, |state| Arc::clone(state));
                list.push(Backend { endpoint: Endpoint { address, name: name.cloned() }, weight, state });
            }
        };
        let mut without_address = Vec::new();
        let mut is_waiting = false;
        for BackendTarget { address, weight } in targets {
            match address {
                BackendAddress::Ip(address) => push(*address, None, *weight),
                BackendAddress::Name(name, port) => {
                    let addresses = answers.get(name);
                    is_waiting |= addresses.is_none();
                    let addresses = addresses.map(Arc::as_ref).unwrap_or_default();
                    if addresses.is_empty() {
                        without_address.push(address.clone());
                    }
                    addresses.iter().for_each(|address| push(SocketAddr::new(*address, *port), Some(name), *weight));
                }
            }
        }
        let weights: Vec<u16> = list.iter().map(|backend| backend.weight).collect();
        Self { picker: Picker::new(balance, &weights), list, answers, without_address, is_waiting }
    }

    /// Those that may be tried, but not `tried` again.
    pub(super) fn candidates(&self, tried: &[usize]) -> impl Iterator<Item = usize> {
        (0..self.list.len()).filter(|index| self.is_candidate(*index, tried))
    }

    pub(super) fn is_candidate(&self, index: usize, tried: &[usize]) -> bool {
        let backend = &self.list[index];
        backend.weight > 0 && backend.state.health.is_up() && !tried.contains(&index)
    }
}

impl State {
    fn new() -> Arc<Self> {
        Arc::new(Self { active: AtomicUsize::new(0), health: Health::new() })
    }
}

/// What an answer may lead to: unicast addresses, each once, in an order of their own, and so many.
pub(super) fn usable(addresses: &[IpAddr]) -> Arc<[IpAddr]> {
    let is_usable = |address: &IpAddr| {
        let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        !(address.is_unspecified() || address.is_multicast() || is_broadcast)
    };
    let mut usable: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).filter(is_usable).collect();
    usable.sort_unstable();
    usable.dedup();
    usable.truncate(MOST_ADDRESSES);
    usable.into()
}

/// As many fit into a message to a terminator, and into what `balance` counts with.
pub const MOST_ADDRESSES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: BackendAddress, weight: u16) -> BackendTarget {
        BackendTarget { address, weight }
    }

    fn name(text: &str, port: u16) -> BackendAddress {
        BackendAddress::Name(BackendName::parse(text).unwrap(), port)
    }

    #[test]
    fn a_name_stands_for_all_its_addresses_with_the_weight_of_its_entry() {
        let literal: SocketAddr = "10.0.0.1:443".parse().unwrap();
        let targets = [target(BackendAddress::Ip(literal), 7), target(name("svc", 443), 2), target(name("new", 1), 1)];
        let addresses = ["10.0.0.1", "2001:db8::1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let answers = Answers::from([(BackendName::parse("svc").unwrap(), usable(&addresses))]);
        let endpoints = Endpoints::new(&targets, Balance::RoundRobin, answers, &[]);
        let seen: Vec<_> =
            endpoints.list.iter().map(|backend| (backend.endpoint.address.to_string(), backend.weight)).collect();
        let expected = [("10.0.0.1:443", 7), ("10.0.0.2:443", 2), ("[2001:db8::1]:443", 2)];
        assert_eq!(seen, expected.map(|(address, weight)| (address.to_owned(), weight)));
        assert!(endpoints.is_waiting);
        assert_eq!(endpoints.without_address, [name("new", 1)]);
    }

    #[test]
    fn what_nobody_can_connect_to_is_left_out() {
        let addresses = ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:10.0.0.1", "10.0.0.1"];
        let addresses = addresses.map(|text| text.parse().unwrap());
        assert_eq!(*usable(&addresses), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        let many: Vec<IpAddr> = (0..1000_u32).map(|number| IpAddr::from(number.to_be_bytes())).collect();
        assert_eq!(usable(&many).len(), MOST_ADDRESSES);
    }
}
