//! The beginning of a record, which is the same in every layout (`router_common::cut_through::Flow`). Pure.

use std::time::Duration;

use router_common::cut_through::LifeStage;

/// What a router of any version can tell of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ebpf::cut_through) struct Head {
    ended: bool,
    carried: bool,
    idle_timeout_ms: u32,
    /// CLOCK_MONOTONIC_COARSE in nanoseconds; 0 before the first packet.
    last: u64,
}

impl Head {
    /// Of a whole record; `None` when it cannot be one.
    pub(in crate::ebpf::cut_through) fn of(record: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_ne_bytes(record.get(at..at + 2)?.try_into().ok()?));
        let long = |at: u16| Some(u64::from_ne_bytes(record.get(at.into()..usize::from(at) + 8)?.try_into().ok()?));
        let last = long(half(8)?)?.max(long(half(10)?)?);
        Some(Self {
            ended: word(0)? != 0,
            carried: half(12)? == LifeStage::Carried as u16,
            idle_timeout_ms: word(4)?,
            last,
        })
    }

    /// Whether nothing can follow: it has ended some time ago, has been silent for too long, or its sockets died with
    /// the process that was about to hand it to the programs.
    pub(in crate::ebpf::cut_through) fn is_over(&self, now: u64, linger: Duration) -> bool {
        let silent = Duration::from_nanos(now.saturating_sub(self.last));
        let idle = self.idle_timeout_ms != u32::MAX && silent > Duration::from_millis(self.idle_timeout_ms.into());
        !self.carried || self.ended && silent > linger || self.last != 0 && idle
    }
}

#[cfg(test)]
mod tests {
    use router_common::cut_through::{CLIENT, Direction, Flow, LAST_AT};

    use super::*;

    fn head(flow: Flow) -> Head {
        let mut record = vec![0; size_of::<Flow>()];
        record[0..4].copy_from_slice(&flow.ended.to_ne_bytes());
        record[4..8].copy_from_slice(&flow.idle_timeout_ms.to_ne_bytes());
        record[8..10].copy_from_slice(&flow.last_at[0].to_ne_bytes());
        record[10..12].copy_from_slice(&flow.last_at[1].to_ne_bytes());
        record[12..14].copy_from_slice(&flow.stage.to_ne_bytes());
        let at = usize::from(LAST_AT[CLIENT]);
        record[at..at + 8].copy_from_slice(&flow.directions[CLIENT].last.to_ne_bytes());
        Head::of(&record).unwrap()
    }

    #[test]
    fn a_flow_is_over_when_it_ended_a_while_ago_or_is_idle_or_was_never_handed_over() {
        let seconds = |seconds: u64| seconds * 1_000_000_000;
        let client = Direction { last: seconds(100), ..Direction::default() };
        let live = Flow {
            stage: LifeStage::Carried as u16,
            idle_timeout_ms: 60_000,
            last_at: LAST_AT,
            directions: [client, Direction::default()],
            ..Flow::default()
        };
        let over = |flow: Flow, now: u64| head(flow).is_over(seconds(now), Duration::from_secs(2));
        assert!(!over(live, 101) && !over(live, 159) && over(live, 161));
        assert!(!over(Flow { idle_timeout_ms: u32::MAX, ..live }, 1_000_000));
        assert!(!over(Flow { ended: 1, ..live }, 101) && over(Flow { ended: 1, ..live }, 103));
        assert!(over(Flow { stage: LifeStage::Opening as u16, ..live }, 101));
    }

    #[test]
    fn what_is_too_short_is_no_record() {
        let mut record = [0; 64];
        record[8..10].copy_from_slice(&64_u16.to_ne_bytes());
        for length in 0..=64 {
            assert_eq!(Head::of(&record[..length]), None);
        }
    }
}
