//! Whether one backend is healthy: so many failures in a row until it is not, so many successes until it is again.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use config::HealthCheck;

/// The state of one backend. A probe and a failed connection that meet may count as one, which is no harm.
#[derive(Debug)]
pub(super) struct Health {
    up: AtomicBool,
    /// Observations in a row that speak against the present state.
    streak: AtomicU32,
}

/// What an observation changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    AsBefore,
    WentDown,
    CameUp,
}

impl Health {
    /// Healthy, until it is seen otherwise.
    pub(super) fn new() -> Self {
        Self { up: AtomicBool::new(true), streak: AtomicU32::new(0) }
    }

    /// Nobody looks any more.
    pub(super) fn assume_healthy(&self) {
        self.streak.store(0, Ordering::Relaxed);
        self.up.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// A connection was established: failures before it are not in a row any more. Cheap, because it is on every
    /// connection's path.
    pub(super) fn worked(&self) {
        if self.is_up() && self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
    }

    /// A probe, or a connection that failed.
    pub(super) fn observe(&self, worked: bool, check: &HealthCheck) -> Verdict {
        let up = self.is_up();
        if worked == up {
            self.streak.store(0, Ordering::Relaxed);
            return Verdict::AsBefore;
        }
        let needed = if up { check.unhealthy_after } else { check.healthy_after };
        if self.streak.fetch_add(1, Ordering::Relaxed) + 1 < needed {
            return Verdict::AsBefore;
        }
        self.streak.store(0, Ordering::Relaxed);
        // Of two that see it at the same moment, one says so.
        match self.up.swap(worked, Ordering::Relaxed) == worked {
            true => Verdict::AsBefore,
            false if worked => Verdict::CameUp,
            false => Verdict::WentDown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CHECK: HealthCheck = HealthCheck {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        unhealthy_after: 3,
        healthy_after: 2,
    };

    #[test]
    fn only_failures_in_a_row_take_a_backend_out() {
        let health = Health::new();
        for worked in [false, false, true, false, false] {
            assert_eq!(health.observe(worked, &CHECK), Verdict::AsBefore);
        }
        assert_eq!(health.observe(false, &CHECK), Verdict::WentDown);
        assert!(!health.is_up());
    }

    #[test]
    fn an_established_connection_breaks_the_row() {
        let health = Health::new();
        health.observe(false, &CHECK);
        health.observe(false, &CHECK);
        health.worked();
        assert_eq!(health.observe(false, &CHECK), Verdict::AsBefore);
        assert!(health.is_up());
    }

    #[test]
    fn it_comes_back_after_good_probes_in_a_row() {
        let health = Health::new();
        (0..3).for_each(|_| _ = health.observe(false, &CHECK));
        for worked in [true, false, true] {
            assert_eq!(health.observe(worked, &CHECK), Verdict::AsBefore);
        }
        assert_eq!(health.observe(true, &CHECK), Verdict::CameUp);
        assert!(health.is_up());
    }
}
