//! Decides, direction by direction, between copying and splicing. Pure: it sees sizes and moves nothing.

use super::context::RelayPolicy;

/// How a direction moves its next bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gear {
    Copy,
    Splice,
}

#[derive(Debug)]
pub(super) struct GearBox {
    policy: RelayPolicy,
    gear: Gear,
    /// Consecutive observations that speak for the other gear.
    evidence: u8,
}

impl GearBox {
    pub(super) fn new(policy: RelayPolicy) -> Self {
        let gear = if policy == RelayPolicy::Splice { Gear::Splice } else { Gear::Copy };
        Self { policy, gear, evidence: 0 }
    }

    pub(super) fn gear(&self) -> Gear {
        self.gear
    }

    /// A read into the buffer gave this many bytes.
    pub(super) fn read(&mut self, bytes: usize) {
        if self.policy == RelayPolicy::Auto {
            self.observe(bytes >= BULK_BYTES, BULK_READS, Gear::Splice);
        }
    }

    /// The source is empty after this many bytes were spliced since it last was.
    pub(super) fn ran_dry(&mut self, bytes: usize) {
        if self.policy == RelayPolicy::Auto {
            self.observe(bytes < BULK_BYTES, SMALL_BURSTS, Gear::Copy);
        }
    }

    /// There was no pipe: goes on copying until there is new evidence.
    pub(super) fn no_pipe(&mut self) {
        if self.policy == RelayPolicy::Auto {
            (self.gear, self.evidence) = (Gear::Copy, 0);
        }
    }

    fn observe(&mut self, speaks_for_change: bool, enough: u8, next: Gear) {
        self.evidence = if speaks_for_change { self.evidence + 1 } else { 0 };
        if self.evidence >= enough {
            (self.gear, self.evidence) = (next, 0);
        }
    }
}

/// Where a read by splice(2), which costs two system calls and page references, has become as cheap as copying.
const BULK_BYTES: usize = 32 * 1024;
/// Large reads in a row before a direction counts as bulk: a response of a page or two does not.
const BULK_READS: u8 = 4;
/// Small bursts in a row before it no longer does: the gaps of a congested transfer do not end it.
const SMALL_BURSTS: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(policy: RelayPolicy, reads: impl IntoIterator<Item = usize>) -> GearBox {
        let mut gears = GearBox::new(policy);
        reads.into_iter().for_each(|bytes| gears.read(bytes));
        gears
    }

    #[test]
    fn bulk_is_a_run_of_large_reads() {
        assert_eq!(observed(RelayPolicy::Auto, [BULK_BYTES; 3]).gear(), Gear::Copy);
        assert_eq!(observed(RelayPolicy::Auto, [BULK_BYTES; 4]).gear(), Gear::Splice);
        let interrupted = [BULK_BYTES, BULK_BYTES, BULK_BYTES, 10, BULK_BYTES];
        assert_eq!(observed(RelayPolicy::Auto, interrupted).gear(), Gear::Copy);
    }

    #[test]
    fn small_bursts_end_it() {
        let mut gears = observed(RelayPolicy::Auto, [BULK_BYTES; 4]);
        (0..SMALL_BURSTS - 1).for_each(|_| gears.ran_dry(512));
        gears.ran_dry(1_000_000);
        (0..SMALL_BURSTS - 1).for_each(|_| gears.ran_dry(512));
        assert_eq!(gears.gear(), Gear::Splice);
        gears.ran_dry(512);
        assert_eq!(gears.gear(), Gear::Copy);
    }

    #[test]
    fn the_other_policies_never_change() {
        assert_eq!(observed(RelayPolicy::Copy, [1 << 20; 99]).gear(), Gear::Copy);
        let mut splice = observed(RelayPolicy::Splice, [1; 99]);
        (0..99).for_each(|_| splice.ran_dry(1));
        splice.no_pipe();
        assert_eq!(splice.gear(), Gear::Splice);
    }
}
