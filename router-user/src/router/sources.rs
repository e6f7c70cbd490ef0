//! What the sources of one listener's connections use of it: a table of fixed size, which the workers share without a
//! lock. Decides who is admitted, never what a refused one is told.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ::connection::limits::{Exceeded, interval, spend};
use config::PerSource;

/// The sources of one listener. Exact, but for the moment in which the first connections of a source reach several
/// workers at once: then each of these workers may let one in beyond the bound.
#[derive(Debug)]
pub struct Sources {
    /// Its key is random, so that nobody can choose addresses that share a place.
    hasher: RandomState,
    start: Instant,
    sets: Box<[Set]>,
}

/// Counts as one connection of its source until it is dropped.
#[derive(Debug)]
pub(super) struct SourceAdmission {
    sources: Arc<Sources>,
    set: u32,
    way: u32,
}

impl Sources {
    /// Nobody is known.
    pub(super) fn new() -> Self {
        Self::with_sets(SETS)
    }

    fn with_sets(sets: usize) -> Self {
        let sets = (0..sets).map(|_| Set::default()).collect();
        Self { hasher: RandomState::new(), start: Instant::now(), sets }
    }

    /// Admits one more connection of the client's source, or says which bound it is that forbids it. What is not
    /// admitted uses up nothing. `None` is one that cannot be counted, because every place for its source is held by
    /// connections of others: it is let in, for so many sources at once are no single one's doing.
    pub(super) fn admit(
        self: &Arc<Self>,
        bounds: &PerSource,
        client: IpAddr,
    ) -> Result<Option<SourceAdmission>, Exceeded> {
        self.admit_at(self.start.elapsed().as_nanos() as u64, bounds, client)
    }

    /// One that was admitted before, by another process: it counts and cannot be refused any more. `None` as above.
    pub(super) fn readmit(self: &Arc<Self>, bounds: &PerSource, client: IpAddr) -> Option<SourceAdmission> {
        let unbounded = PerSource { max_connections: None, connection_rate: None, ..*bounds };
        self.admit(&unbounded, client).ok().flatten()
    }

    fn admit_at(
        self: &Arc<Self>,
        now: u64,
        bounds: &PerSource,
        client: IpAddr,
    ) -> Result<Option<SourceAdmission>, Exceeded> {
        let hash = self.hasher.hash_one(source(bounds, client));
        let set = hash as usize % self.sets.len();
        let tag = (hash >> 32) as u32;
        let admission = loop {
            let Some((way, seen)) = self.sets[set].place(tag, now) else { return Ok(None) };
            let place = &self.sets[set].0[way];
            let active = if seen.tag == tag { seen.active } else { 0 };
            if bounds.max_connections.is_some_and(|most| active >= most) {
                return Err(Exceeded::Connections);
            }
            let next = Holder { tag, active: active + 1 };
            if place.holder.compare_exchange(seen.word(), next.word(), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                if seen.tag != tag {
                    place.due.store(0, Ordering::Relaxed);
                }
                break SourceAdmission { sources: Arc::clone(self), set: set as u32, way: way as u32 };
            }
        };
        match bounds.connection_rate {
            Some(per_second) if !spend(&admission.place().due, interval(per_second), now) => Err(Exceeded::Rate),
            _ => Ok(Some(admission)),
        }
    }
}

impl SourceAdmission {
    fn place(&self) -> &Place {
        &self.sources.sets[self.set as usize].0[self.way as usize]
    }
}

impl Drop for SourceAdmission {
    fn drop(&mut self) {
        // Nobody else gets the place as long as it has a connection, so this is still ours.
        self.place().holder.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The prefix that counts as one source.
fn source(bounds: &PerSource, client: IpAddr) -> (bool, u128) {
    let (address, unused_bits) = match client {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32 - u32::from(bounds.ipv4_prefix.min(32))),
        IpAddr::V6(address) => (address.to_bits(), 128 - u32::from(bounds.ipv6_prefix.min(128))),
    };
    (client.is_ipv4(), address.checked_shr(unused_bits).unwrap_or_default())
}

/// The places that a source can have; two cache lines.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([Place; WAYS]);

#[derive(Debug, Default)]
struct Place {
    /// A [`Holder`] as one word.
    holder: AtomicU64,
    /// See [`spend`]; after the table's start.
    due: AtomicU64,
}

/// Whose place it is. An empty place is one whose source has gone.
#[derive(Clone, Copy, Debug)]
struct Holder {
    /// Together with the set, 47 bits of the source's hash.
    tag: u32,
    /// Connections at this time. Cannot overflow: each has a descriptor, or a place in the table of flows.
    active: u32,
}

impl Set {
    /// The place of this source; else the one whose source has no connection and will soonest be as good as new, most
    /// often because it is long gone. All who ask at one time get the same answer.
    fn place(&self, tag: u32, now: u64) -> Option<(usize, Holder)> {
        let mut best = None;
        let mut shortest = u64::MAX;
        for (way, place) in self.0.iter().enumerate() {
            let holder = Holder::of(place.holder.load(Ordering::Relaxed));
            if holder.tag == tag {
                return Some((way, holder));
            }
            if holder.active == 0 {
                let wait = place.due.load(Ordering::Relaxed).saturating_sub(now);
                if wait < shortest {
                    (best, shortest) = (Some((way, holder)), wait);
                }
            }
        }
        best
    }
}

impl Holder {
    fn of(word: u64) -> Self {
        Self { tag: (word >> 32) as u32, active: word as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.tag) << 32 | u64::from(self.active)
    }
}

/// A source that finds all of them taken by others with connections is not counted.
const WAYS: usize = 8;
/// Places for 262,144 sources in 4 MiB: with as many connections as a listener has by default (100,000), each of another
/// source, one in 250 is not counted.
const SETS: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::thread;

    use super::*;

    const BOUNDS: PerSource =
        PerSource { max_connections: Some(2), connection_rate: None, ipv4_prefix: 32, ipv6_prefix: 64 };

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn held(sources: &Arc<Sources>, bounds: &PerSource, client: IpAddr) -> SourceAdmission {
        sources.admit(bounds, client).unwrap().unwrap()
    }

    #[test]
    fn a_source_at_its_bound_is_refused_until_one_ends_and_others_are_not() {
        let sources = Arc::new(Sources::new());
        let first = held(&sources, &BOUNDS, client(1));
        let _second = held(&sources, &BOUNDS, client(1));
        assert_eq!(sources.admit(&BOUNDS, client(1)).unwrap_err(), Exceeded::Connections);
        let _other = held(&sources, &BOUNDS, client(2));
        drop(first);
        let _again = held(&sources, &BOUNDS, client(1));
        assert_eq!(sources.admit(&BOUNDS, client(1)).unwrap_err(), Exceeded::Connections);
    }

    #[test]
    fn who_was_admitted_elsewhere_counts_and_is_not_refused() {
        let sources = Arc::new(Sources::new());
        let bounds = PerSource { connection_rate: Some(1), ..BOUNDS };
        let mut all: Vec<_> = (0..3).map(|_| sources.readmit(&bounds, client(1)).unwrap()).collect();
        assert_eq!(sources.admit(&bounds, client(1)).unwrap_err(), Exceeded::Connections);
        all.truncate(1);
        let _one = held(&sources, &bounds, client(1));
        assert_eq!(sources.admit(&bounds, client(1)).unwrap_err(), Exceeded::Connections);
    }

    #[test]
    fn a_source_has_its_own_rate_and_what_that_refuses_takes_no_place() {
        let bounds = PerSource { max_connections: Some(4), connection_rate: Some(3), ..BOUNDS };
        let sources = Arc::new(Sources::new());
        let admitted = |client, now| (0..10).filter(|_| sources.admit_at(now, &bounds, client).is_ok()).count();
        assert_eq!((admitted(client(1), 0), admitted(client(1), 1), admitted(client(2), 1)), (3, 0, 3));
        assert_eq!(admitted(client(1), interval(3)), 1);
        let without_rate = PerSource { connection_rate: None, ..bounds };
        let _all: Vec<_> = (0..4).map(|_| held(&sources, &without_rate, client(1))).collect();
    }

    #[test]
    fn addresses_of_one_prefix_are_one_source() {
        let bounds = PerSource { max_connections: Some(1), ipv4_prefix: 24, ..BOUNDS };
        for (first, same, other) in
            [("192.0.2.1", "192.0.2.255", "192.0.3.1"), ("2001:db8:0:1::1", "2001:db8:0:1:ffff::", "2001:db8:0:2::1")]
        {
            let sources = Arc::new(Sources::new());
            let _first = held(&sources, &bounds, first.parse().unwrap());
            assert_eq!(sources.admit(&bounds, same.parse().unwrap()).unwrap_err(), Exceeded::Connections);
            let _other = held(&sources, &bounds, other.parse().unwrap());
        }
        let whole = PerSource { ipv4_prefix: 32, ipv6_prefix: 128, ..BOUNDS };
        assert_ne!(source(&whole, "0.0.0.1".parse().unwrap()), source(&whole, "::1".parse().unwrap()));
    }

    #[test]
    fn other_bounds_hold_at_once_and_forget_nobody() {
        let sources = Arc::new(Sources::new());
        let _both: Vec<_> = (0..2).map(|_| held(&sources, &BOUNDS, client(1))).collect();
        let more = PerSource { max_connections: Some(3), ..BOUNDS };
        let _third = held(&sources, &more, client(1));
        for bounds in [more, BOUNDS] {
            assert_eq!(sources.admit(&bounds, client(1)).unwrap_err(), Exceeded::Connections);
        }
    }

    #[test]
    fn where_all_places_are_held_by_others_a_source_is_let_in_uncounted() {
        let sources = Arc::new(Sources::with_sets(1));
        let mut others: Vec<_> = (1..=WAYS as u32).map(|other| held(&sources, &BOUNDS, client(other))).collect();
        (0..10).for_each(|_| assert!(sources.admit(&BOUNDS, client(100)).unwrap().is_none()));
        others.pop();
        let _both: Vec<_> = (0..2).map(|_| held(&sources, &BOUNDS, client(100))).collect();
        assert_eq!(sources.admit(&BOUNDS, client(100)).unwrap_err(), Exceeded::Connections);
    }

    #[test]
    fn who_has_just_spent_its_rate_is_forgotten_last() {
        let bounds = PerSource { max_connections: None, connection_rate: Some(1), ..BOUNDS };
        let sources = Arc::new(Sources::with_sets(1));
        drop(sources.admit_at(1, &bounds, client(1)).unwrap());
        let without_rate = PerSource { connection_rate: None, max_connections: Some(1), ..BOUNDS };
        (1000..2000).for_each(|other| drop(sources.admit_at(2, &without_rate, client(other)).unwrap()));
        assert_eq!(sources.admit_at(3, &bounds, client(1)).unwrap_err(), Exceeded::Rate);
    }

    #[test]
    fn a_million_sources_take_no_more_memory_and_nothing_from_those_that_are_there() {
        let bounds = PerSource { max_connections: Some(1), connection_rate: Some(1), ..BOUNDS };
        let sources = Arc::new(Sources::new());
        let _first = held(&sources, &bounds, client(1));
        let bytes = size_of_val(&*sources.sets);
        assert_eq!(bytes, 4 << 20);
        for other in 2..1_000_002 {
            // One held, the next one gone at once: most sets are full of sources that were just here.
            drop(sources.admit(&bounds, client(other)).unwrap());
        }
        assert_eq!(size_of_val(&*sources.sets), bytes);
        assert_eq!(sources.admit(&bounds, client(1)).unwrap_err(), Exceeded::Connections);
        let active = sources.sets.iter().flat_map(|set| &set.0);
        let active: u32 = active.map(|place| Holder::of(place.holder.load(Ordering::Relaxed)).active).sum();
        assert_eq!(active, 1);
    }

    #[test]
    fn workers_at_once_keep_the_bound_of_a_source() {
        let sources = Arc::new(Sources::with_sets(1));
        let bounds = PerSource { max_connections: Some(3), ..BOUNDS };
        let _one = held(&sources, &bounds, client(1));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let admission = sources.admit(&bounds, client(1));
                        let set = &sources.sets[0].0;
                        let active = set.iter().map(|place| Holder::of(place.holder.load(Ordering::Relaxed)).active);
                        assert!(active.sum::<u32>() <= 3);
                        drop(admission);
                    }
                });
            }
        });
        assert!(sources.admit(&bounds, client(1)).is_ok());
    }
}
