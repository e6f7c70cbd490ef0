//! What one tenant may use of a process: connections at one time, and how many begin in a second. One per tenant,
//! shared by the workers without a lock. A reload changes the bounds, not what is counted. The rule of rates also holds
//! for others that are limited.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// A tenant's bounds and how far it is from them.
#[derive(Debug)]
pub struct Limits {
    /// [`UNBOUNDED`] means no bound, and then nobody is counted.
    most: AtomicUsize,
    active: AtomicUsize,
    rate: Rate,
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// As many connections as may be.
    Connections,
    /// As many beginnings in this second as may be.
    Rate,
}

/// Counts as one connection until it is dropped.
#[derive(Debug)]
pub struct Admission(Option<Arc<Limits>>);

impl Limits {
    /// At most so many connections, and so many new ones per second; `None` means no bound.
    pub fn new(most: Option<u32>, per_second: Option<u32>) -> Self {
        let limits = Self { most: AtomicUsize::new(UNBOUNDED), active: AtomicUsize::new(0), rate: Rate::new() };
        limits.change(most, per_second);
        limits
    }

    /// Other bounds from now on. Connections that were admitted without a bound are not counted under a new one.
    pub fn change(&self, most: Option<u32>, per_second: Option<u32>) {
        self.most.store(most.map_or(UNBOUNDED, |most| most as usize), Ordering::Relaxed);
        self.rate.interval.store(per_second.map_or(0, interval), Ordering::Relaxed);
    }

    /// Admits one more, or says which bound it is that forbids it. What is not admitted uses up nothing.
    pub fn admit(self: &Arc<Self>) -> Result<Admission, Exceeded> {
        let most = self.most.load(Ordering::Relaxed);
        if most == UNBOUNDED {
            self.spend()?;
            return Ok(Admission(None));
        }
        if self.active.fetch_add(1, Ordering::Relaxed) >= most {
            self.active.fetch_sub(1, Ordering::Relaxed);
            return Err(Exceeded::Connections);
        }
        let admission = Admission(Some(Arc::clone(self)));
        self.spend()?;
        Ok(admission)
    }

    /// One that was admitted before, by another process: it is counted and cannot be refused any more.
    pub fn readmit(self: &Arc<Self>) -> Admission {
        if self.most.load(Ordering::Relaxed) == UNBOUNDED {
            return Admission(None);
        }
        self.active.fetch_add(1, Ordering::Relaxed);
        Admission(Some(Arc::clone(self)))
    }

    fn spend(&self) -> Result<(), Exceeded> {
        match self.rate.interval.load(Ordering::Relaxed) {
            0 => Ok(()),
            interval if spend(&self.rate.due, interval, self.rate.start.elapsed().as_nanos() as u64) => Ok(()),
            _ => Err(Exceeded::Rate),
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(limits) = &self.0 {
            limits.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One more at the time `now`, if the rate allows it: the generic cell rate algorithm (ITU-T I.371, virtual scheduling),
/// a second's worth at once, then evenly. `due` is when the next one would come if all so far had been evenly spread;
/// whoever has a `due` in the past is as good as new. All in nanoseconds.
pub fn spend(due: &AtomicU64, interval: u64, now: u64) -> bool {
    let spend = |due: u64| {
        let next = due.max(now) + interval;
        (next <= now + SECOND).then_some(next)
    };
    due.try_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
}

/// Nanoseconds between two that are evenly spread.
pub fn interval(per_second: u32) -> u64 {
    SECOND / u64::from(per_second.max(1))
}

#[derive(Debug)]
struct Rate {
    start: Instant,
    /// See [`interval`]; 0 means no bound.
    interval: AtomicU64,
    /// See [`spend`]; after `start`.
    due: AtomicU64,
}

impl Rate {
    fn new() -> Self {
        Self { start: Instant::now(), interval: AtomicU64::new(0), due: AtomicU64::new(0) }
    }
}

const SECOND: u64 = 1_000_000_000;

const UNBOUNDED: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admission_that_ends_makes_room() {
        let limits = Arc::new(Limits::new(Some(2), None));
        let first = limits.admit().unwrap();
        let _second = limits.admit().unwrap();
        assert_eq!(limits.admit().unwrap_err(), Exceeded::Connections);
        assert_eq!(limits.admit().unwrap_err(), Exceeded::Connections);
        drop(first);
        limits.admit().unwrap();
    }

    #[test]
    fn a_second_s_worth_at_once_then_evenly() {
        let due = AtomicU64::new(0);
        let allowed = |now| (0..100).filter(|_| spend(&due, interval(10), now)).count();
        assert_eq!(allowed(0), 10);
        assert_eq!(allowed(SECOND / 20), 0);
        assert_eq!(allowed(SECOND / 10), 1);
        assert_eq!(allowed(SECOND), 9);
        assert_eq!(allowed(100 * SECOND), 10);
    }

    #[test]
    fn what_the_rate_refuses_takes_no_place() {
        let limits = Arc::new(Limits::new(Some(1), Some(1)));
        drop(limits.admit().unwrap());
        assert_eq!(limits.admit().unwrap_err(), Exceeded::Rate);
        assert_eq!(limits.active.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_changed_bound_counts_who_is_there() {
        let limits = Arc::new(Limits::new(Some(3), None));
        let _admissions: Vec<_> = (0..2).map(|_| limits.admit().unwrap()).collect();
        limits.change(Some(2), Some(1));
        assert_eq!(limits.admit().unwrap_err(), Exceeded::Connections);
        limits.change(Some(5), Some(1));
        let _third = limits.admit().unwrap();
        assert_eq!(limits.admit().unwrap_err(), Exceeded::Rate);
    }

    #[test]
    fn who_was_admitted_elsewhere_counts_and_is_not_refused() {
        let limits = Arc::new(Limits::new(Some(1), Some(1)));
        let both = (limits.readmit(), limits.readmit());
        assert_eq!(limits.admit().unwrap_err(), Exceeded::Connections);
        drop(both);
        limits.admit().unwrap();
    }

    #[test]
    fn without_bounds_everybody_is_admitted() {
        let limits = Arc::new(Limits::new(None, None));
        let admissions: Vec<_> = (0..1000).map(|_| limits.admit().unwrap()).collect();
        assert_eq!(admissions.len(), 1000);
    }
}
