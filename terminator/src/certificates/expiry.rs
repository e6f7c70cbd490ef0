//! When to speak of a certificate's end: 30, 7 and 1 days before it, and when it has come.
//! Pure: remembers what was said, and the moment is an argument.

use std::collections::HashMap;

use super::{Moment, ServedCertificate};

/// How near the end is. Later stages are more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Less than 30 days, or than a third of its whole life.
    Month,
    /// Less than 7 days, or than a sixth.
    Week,
    /// Less than a day, or than a twelfth.
    Day,
    /// It has come.
    Expired,
}

impl Stage {
    /// Certificates that live for hours or days are renewed late in their life, so for them fractions count.
    pub(crate) fn of(not_before: i64, not_after: i64, now: Moment) -> Option<Self> {
        let life = not_after.saturating_sub(not_before);
        let left = not_after.saturating_sub(now.0);
        let below = |days: i64, fraction: i64| left < (days * SECONDS_PER_DAY).min(life / fraction);
        if left < 0 {
            Some(Self::Expired)
        } else if below(1, 12) {
            Some(Self::Day)
        } else if below(7, 6) {
            Some(Self::Week)
        } else if below(30, 3) {
            Some(Self::Month)
        } else {
            None
        }
    }
}

/// A certificate whose end came a stage nearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// The certificate, as the operator calls it.
    pub(crate) name: String,
    /// Its serial.
    pub(crate) serial: String,
    /// Its end.
    pub(crate) not_after: Moment,
    /// How near that is.
    pub(crate) stage: Stage,
}

/// What was said about each serial, so that each stage is told once.
#[derive(Debug, Default)]
pub(crate) struct ExpiryWatch {
    told: HashMap<String, Stage>,
}

impl ExpiryWatch {
    /// What is new to say about these certificates; others are forgotten.
    pub(crate) fn warnings(&mut self, certificates: &[ServedCertificate], now: Moment) -> Vec<Warning> {
        self.told.retain(|serial, _| certificates.iter().any(|served| served.leaf.serial == *serial));
        let mut warnings = Vec::new();
        for served in certificates {
            let leaf = &served.leaf;
            let Some(stage) = Stage::of(leaf.not_before, leaf.not_after, now) else { continue };
            if self.told.get(&leaf.serial).is_some_and(|told| *told >= stage) {
                continue;
            }
            self.told.insert(leaf.serial.clone(), stage);
            warnings.push(Warning {
                name: served.name.clone(),
                serial: leaf.serial.clone(),
                not_after: Moment(leaf.not_after),
                stage,
            });
        }
        warnings
    }
}

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Leaf;
    use crate::test_pki::{Authority, KeyKind};

    const DAY: i64 = SECONDS_PER_DAY;

    #[test]
    fn stages_are_days_for_long_lives_and_fractions_for_short_ones() {
        let stage = |life: i64, left: i64| Stage::of(0, life, Moment(life - left));
        assert_eq!(stage(90 * DAY, 30 * DAY), None);
        assert_eq!(stage(90 * DAY, 30 * DAY - 1), Some(Stage::Month));
        assert_eq!(stage(90 * DAY, 7 * DAY - 1), Some(Stage::Week));
        assert_eq!(stage(90 * DAY, DAY - 1), Some(Stage::Day));
        assert_eq!(stage(90 * DAY, 0), Some(Stage::Day));
        assert_eq!(stage(90 * DAY, -1), Some(Stage::Expired));
        assert_eq!((stage(DAY, DAY / 2), stage(DAY, DAY / 3 - 1)), (None, Some(Stage::Month)));
        assert_eq!(stage(DAY, DAY / 12 - 1), Some(Stage::Day));
    }

    #[test]
    fn each_stage_of_a_serial_is_told_once() {
        let mut served = Authority::new("a").server(&["a.example"], KeyKind::Ecdsa).served();
        served.leaf = Leaf { not_before: 0, not_after: 90 * DAY, ..served.leaf };
        let mut watch = ExpiryWatch::default();
        let mut stages = |served: &ServedCertificate, day: i64| -> Vec<Stage> {
            let warnings = watch.warnings(std::slice::from_ref(served), Moment(day * DAY));
            warnings.into_iter().map(|warning| warning.stage).collect()
        };
        assert_eq!(stages(&served, 10), []);
        assert_eq!(stages(&served, 61), [Stage::Month]);
        assert_eq!(stages(&served, 62), []);
        assert_eq!(stages(&served, 91), [Stage::Expired]);
        served.leaf.serial = "00AA".into();
        assert_eq!(stages(&served, 91), [Stage::Expired]);
    }
}
