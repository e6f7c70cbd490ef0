//! Whose turn it is. Pure, but for counters that spread the turns over all workers.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use config::Balance;

use super::endpoints::Backend;

/// The state of a choice.
#[derive(Debug)]
pub(super) enum Picker {
    LeastConnections {
        next: AtomicUsize,
    },
    RoundRobin {
        /// Positions of backends, each as often as its weight says and as evenly spread as can be.
        schedule: Vec<u16>,
        next: AtomicUsize,
    },
    Random,
    SourceHash,
}

impl Picker {
    pub(super) fn new(balance: Balance, weights: &[u16]) -> Self {
        match balance {
            Balance::LeastConnections => Self::LeastConnections { next: AtomicUsize::new(0) },
            Balance::RoundRobin => Self::RoundRobin { schedule: schedule(weights), next: AtomicUsize::new(0) },
            Balance::Random => Self::Random,
            Balance::SourceHash => Self::SourceHash,
        }
    }

    /// The position of the backend whose turn it is among the candidates.
    pub(super) fn pick(&self, list: &[Backend], client: IpAddr, is_candidate: impl Fn(usize) -> bool) -> Option<usize> {
        if list.len() == 1 {
            return is_candidate(0).then_some(0);
        }
        match self {
            Self::LeastConnections { next } => {
                let first = next.fetch_add(1, Ordering::Relaxed);
                let turns = (0..list.len()).map(|turn| first.wrapping_add(turn) % list.len());
                // Of equal ones min_by takes the first, which is another one each time.
                turns.filter(|index| is_candidate(*index)).min_by(|one, other| load(&list[*one], &list[*other]))
            }
            Self::RoundRobin { schedule, next } => {
                let first = next.fetch_add(1, Ordering::Relaxed);
                let turns = (0..schedule.len()).map(|turn| schedule[first.wrapping_add(turn) % schedule.len()]);
                turns.map(usize::from).find(|index| is_candidate(*index))
            }
            Self::Random => {
                let candidates = || (0..list.len()).filter(|index| is_candidate(*index));
                let total: u64 = candidates().map(|index| u64::from(list[index].weight)).sum();
                let mut ticket = (total > 0).then(|| fastrand::u64(..total))?;
                candidates().find(|index| {
                    let weight = u64::from(list[*index].weight);
                    let found = ticket < weight;
                    ticket = ticket.wrapping_sub(weight);
                    found
                })
            }
            Self::SourceHash => {
                let candidates = (0..list.len()).filter(|index| is_candidate(*index));
                let distance = |index: &usize| distance(client, list[*index].endpoint.address, list[*index].weight);
                candidates.min_by(|one, other| distance(one).total_cmp(&distance(other)))
            }
        }
    }
}

/// Compares connections per weight, counting the one that is to come.
fn load(one: &Backend, other: &Backend) -> std::cmp::Ordering {
    let of = |backend: &Backend| backend.state.active.load(Ordering::Relaxed) as u64 + 1;
    (of(one) * u64::from(other.weight)).cmp(&(of(other) * u64::from(one.weight)))
}

/// Smooth weighted round-robin, worked out in advance: in each step everybody gains its weight, and whoever has most
/// takes the turn and pays the sum of all.
fn schedule(weights: &[u16]) -> Vec<u16> {
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, *weight)).max(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0; weights.len()];
    let turn = |_| {
        credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
        // max_by_key takes the last of equal ones; the first comes first.
        let (index, most) = credit.iter_mut().enumerate().rev().max_by_key(|(_, credit)| **credit)?;
        *most -= total;
        u16::try_from(index).ok()
    };
    (0..total).filter_map(turn).collect()
}

fn gcd(one: u16, other: u16) -> u16 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005): the client
/// goes to the backend at the smallest distance, and no distance depends on any other backend.
fn distance(client: IpAddr, backend: SocketAddr, weight: u16) -> f64 {
    let client = match client.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let backend_address = match backend.ip().to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let words = [client as u64, (client >> 64) as u64, backend_address as u64, (backend_address >> 64) as u64];
    let hash = words.iter().chain([&u64::from(backend.port())]).fold(0, |hash, word| mix(hash ^ word));
    // The upper 53 bits as a number above 0 and up to 1.
    let uniform = ((hash >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -uniform.ln() / f64::from(weight)
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014): every
/// bit of the input changes half of the output's, and it is the same on every machine and in every version.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}
