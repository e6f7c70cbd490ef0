//! CLOCK_MONOTONIC as a number that two processes of one host can exchange, and back to `Instant`.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The CLOCK_MONOTONIC nanoseconds of an `Instant` of this process.
pub fn monotonic_ns(instant: Instant) -> u64 {
    let (now_ns, now) = (now_ns(), Instant::now());
    match instant.checked_duration_since(now) {
        Some(ahead) => now_ns.saturating_add(nanoseconds(ahead)),
        None => now_ns.saturating_sub(nanoseconds(now.saturating_duration_since(instant))),
    }
}

/// The `Instant` of CLOCK_MONOTONIC nanoseconds that another process measured. What is too far away to be
/// represented becomes now.
pub fn instant_of(monotonic_ns: u64) -> Instant {
    let (now_ns, now) = (now_ns(), Instant::now());
    let there = if monotonic_ns >= now_ns {
        now.checked_add(Duration::from_nanos(monotonic_ns - now_ns))
    } else {
        now.checked_sub(Duration::from_nanos(now_ns - monotonic_ns))
    };
    there.unwrap_or(now)
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(NANOSECONDS_PER_SECOND).saturating_add(nanoseconds)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_the_way_there_and_back() {
        for offset in [Duration::ZERO, Duration::from_secs(5)] {
            let instant = Instant::now() + offset;
            let back = instant_of(monotonic_ns(instant));
            let error = back.max(instant).duration_since(back.min(instant));
            assert!(error < Duration::from_millis(100), "{error:?}");
        }
    }

    #[test]
    fn hostile_numbers_do_not_panic() {
        instant_of(0);
        instant_of(u64::MAX);
    }
}
