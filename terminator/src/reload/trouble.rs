//! When to tell of a problem with files: when it lasts, and once. Pure, but for the moment of its beginning.

use std::time::{Duration, Instant};

/// A problem of one source, from when it was seen to when it is over.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<Lasting>);

#[derive(Debug)]
struct Lasting {
    problem: String,
    /// Since when it is this problem.
    since: Instant,
    told: bool,
    /// Whether this or another problem before it was told.
    any_told: bool,
}

impl Trouble {
    pub(super) fn lasts(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn tell_now(&mut self, problem: String) {
        self.0 = Some(Lasting { problem, since: Instant::now(), told: true, any_told: true });
    }

    /// Whether this problem has lasted long enough and was not told yet.
    pub(super) fn is_worth_telling(&mut self, problem: &str, now: Instant) -> bool {
        let any_told = match &mut self.0 {
            Some(lasting) if lasting.problem == problem => {
                let tell = !lasting.told && now.duration_since(lasting.since) >= SETTLING;
                lasting.told |= tell;
                lasting.any_told |= tell;
                return tell;
            }
            Some(other) => other.any_told,
            None => false,
        };
        self.0 = Some(Lasting { problem: problem.to_owned(), since: now, told: false, any_told });
        false
    }

    /// What it is.
    pub(super) fn problem(&self) -> Option<&str> {
        self.0.as_ref().map(|lasting| lasting.problem.as_str())
    }

    /// Ends it; whether it had been told.
    pub(super) fn is_over(&mut self) -> bool {
        self.0.take().is_some_and(|lasting| lasting.any_told)
    }
}

/// The time that somebody may take between writing a certificate and its key.
pub(super) const SETTLING: Duration = Duration::from_secs(2);
