//! From what was answered to what holds: each family for itself, the last good answer where there was none. Pure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use config::Resolver;

use super::Resolution;

/// What was answered about one family's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// At least one, to be used for so long.
    Addresses(Vec<IpAddr>, Duration),
    /// There is none; whoever answered says for how long that holds, or does not.
    Nothing(Option<Duration>),
    /// No answer, for this reason.
    Failed(String),
}

/// What was answered about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) v4: Family,
    pub(super) v6: Family,
}

/// What holds for a name, and when to ask again.
#[derive(Debug, Default)]
pub(super) struct Held {
    v4: Option<Vec<IpAddr>>,
    v6: Option<Vec<IpAddr>>,
    failures: u32,
}

/// What follows from an answer.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) outcome: Resolution,
    /// All that hold; `None` where nothing has been answered yet.
    pub(super) addresses: Option<Arc<[IpAddr]>>,
    /// Until the next question.
    pub(super) pause: Duration,
    /// Why it failed, told once per row of failures.
    pub(super) trouble: Option<String>,
    /// Whether this ends a row of failures.
    pub(super) is_back: bool,
}

impl Held {
    /// What held before somebody else asked.
    pub(super) fn of(addresses: Option<Arc<[IpAddr]>>) -> Self {
        let Some(addresses) = addresses else { return Self::default() };
        let (v4, v6) = addresses.iter().partition(|address| address.is_ipv4());
        Self { v4: Some(v4), v6: Some(v6), failures: 0 }
    }

    /// Whether there is an address to lose.
    pub(super) fn has_addresses(&self) -> bool {
        [&self.v4, &self.v6].into_iter().flatten().any(|addresses| !addresses.is_empty())
    }

    /// Takes an answer, with `bounds` for its TTL.
    pub(super) fn take(&mut self, answer: Answer, bounds: &Resolver) -> Next {
        let Answer { v4, v6 } = answer;
        let mut positive: Option<Duration> = None;
        let mut negative: Option<Duration> = None;
        let mut failure = None;
        for (held, family) in [(&mut self.v4, v4), (&mut self.v6, v6)] {
            match family {
                Family::Addresses(addresses, ttl) => {
                    *held = Some(addresses);
                    positive = Some(positive.map_or(ttl, |other| other.min(ttl)));
                }
                Family::Nothing(ttl) => {
                    *held = Some(Vec::new());
                    let ttl = ttl.unwrap_or(LONGEST_NOTHING);
                    negative = Some(negative.map_or(ttl, |other| other.min(ttl)));
                }
                Family::Failed(reason) => failure = Some(reason),
            }
        }
        let former_failures = self.failures;
        self.failures = if failure.is_some() { former_failures.saturating_add(1) } else { 0 };
        let pause = match (&failure, positive, negative) {
            (Some(_), ..) => (FIRST_RETRY * 2_u32.saturating_pow(former_failures)).min(LONGEST_RETRY),
            (None, Some(ttl), _) => ttl,
            // A name that appears is seen soon, whatever its zone says.
            (None, None, ttl) => ttl.unwrap_or(LONGEST_NOTHING).min(LONGEST_NOTHING),
        };
        let addresses = (self.v4.is_some() || self.v6.is_some())
            .then(|| [&self.v4, &self.v6].into_iter().flatten().flatten().copied().collect());
        let outcome = match (&failure, self.has_addresses()) {
            (Some(_), _) => Resolution::Failed,
            (None, true) => Resolution::Ok,
            (None, false) => Resolution::None,
        };
        Next {
            outcome,
            // Half an answer, of a name that has had none yet, is not that the name has no address.
            addresses: addresses.filter(|all: &Arc<[IpAddr]>| outcome != Resolution::Failed || !all.is_empty()),
            pause: pause.clamp(bounds.min_ttl, bounds.max_ttl),
            is_back: former_failures > 0 && failure.is_none(),
            trouble: failure.filter(|_| former_failures == 0),
        }
    }
}

/// After a failure; twice as long after each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// What CoreDNS says of names that do not exist.
const LONGEST_NOTHING: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Resolver =
        Resolver { servers: Vec::new(), min_ttl: Duration::from_secs(1), max_ttl: Duration::from_secs(300) };

    fn some(addresses: &[&str], ttl: u64) -> Family {
        Family::Addresses(addresses.iter().map(|text| text.parse().unwrap()).collect(), Duration::from_secs(ttl))
    }

    fn failed() -> Family {
        Family::Failed("timed out".to_owned())
    }

    fn texts(next: &Next) -> Vec<String> {
        next.addresses.iter().flat_map(|all| all.iter()).map(ToString::to_string).collect()
    }

    #[test]
    fn both_families_are_used_for_the_shorter_ttl_within_the_bounds() {
        let mut held = Held::default();
        let answer = Answer { v4: some(&["10.0.0.1"], 60), v6: some(&["2001:db8::1"], 5) };
        let next = held.take(answer, &BOUNDS);
        assert_eq!((texts(&next).join(" "), next.pause.as_secs()), ("10.0.0.1 2001:db8::1".to_owned(), 5));
        for (ttl, pause) in [(0, 1), (100_000, 300)] {
            let answer = Answer { v4: some(&["10.0.0.1"], ttl), v6: Family::Nothing(Some(Duration::ZERO)) };
            assert_eq!(held.take(answer, &BOUNDS).pause.as_secs(), pause);
        }
    }

    #[test]
    fn a_family_that_fails_keeps_its_last_good_answer() {
        let mut held = Held::default();
        held.take(Answer { v4: some(&["10.0.0.1"], 60), v6: some(&["2001:db8::1"], 60) }, &BOUNDS);
        let next = held.take(Answer { v4: failed(), v6: some(&["2001:db8::2"], 60) }, &BOUNDS);
        assert_eq!((texts(&next).join(" "), next.outcome), ("10.0.0.1 2001:db8::2".to_owned(), Resolution::Failed));
        assert_eq!(next.trouble.as_deref(), Some("timed out"));
        let pauses: Vec<u64> = (0..7)
            .map(|_| {
                let next = held.take(Answer { v4: failed(), v6: failed() }, &BOUNDS);
                assert!(texts(&next).len() == 2 && next.trouble.is_none());
                next.pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30, 30]);
        let next = held.take(Answer { v4: some(&["10.0.0.9"], 60), v6: Family::Nothing(None) }, &BOUNDS);
        assert_eq!((texts(&next).join(" "), next.is_back), ("10.0.0.9".to_owned(), true));
    }

    #[test]
    fn nothing_is_an_answer_and_a_failure_is_none() {
        let mut held = Held::default();
        let next = held.take(Answer { v4: failed(), v6: failed() }, &BOUNDS);
        assert_eq!((next.addresses, next.outcome), (None, Resolution::Failed));
        let next = held.take(Answer { v4: failed(), v6: Family::Nothing(None) }, &BOUNDS);
        assert_eq!((next.addresses, next.outcome), (None, Resolution::Failed));
        let hours = Some(Duration::from_secs(7200));
        let next = held.take(Answer { v4: Family::Nothing(hours), v6: Family::Nothing(hours) }, &BOUNDS);
        assert_eq!((next.addresses.as_deref(), next.outcome), (Some(&[][..]), Resolution::None));
        assert_eq!(next.pause.as_secs(), 30);
        assert!(!held.has_addresses());
    }
}
