//! How long to wait before a crashed child is started again. Pure.

use std::time::Duration;

/// Doubles from [`FIRST`] to [`LONGEST`]; a child that ran for [`STABLE`] starts over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The pause before the next start of a child that has just ended after `ran_for`.
    pub(super) fn pause(&mut self, ran_for: Duration) -> Duration {
        if ran_for >= STABLE {
            self.next = FIRST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause
    }
}

/// Short enough that one crash costs the tenant's clients a hesitation, not an error.
const FIRST: Duration = Duration::from_millis(20);

/// Long enough that a child that cannot start costs nothing, short enough that a mended file is noticed soon.
const LONGEST: Duration = Duration::from_secs(10);

const STABLE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..12).map(|_| backoff.pause(Duration::ZERO)).collect();
        assert_eq!(pauses[0], FIRST);
        assert_eq!(pauses[1], FIRST * 2);
        assert_eq!(pauses[11], LONGEST);
    }

    #[test]
    fn a_stable_run_starts_over() {
        let mut backoff = Backoff::new();
        for _ in 0..5 {
            backoff.pause(Duration::ZERO);
        }
        assert_eq!(backoff.pause(STABLE), FIRST);
    }
}
