//! When to speak of an end: 30, 7 and 1 days before it, and when it has come.
//! Pure: remembers what was said, and the moment is an argument.

use super::{Ending, EndingKind, Moment};

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
    /// The stage of something in use.
    pub(crate) fn of_ending(ending: &Ending, now: Moment) -> Option<Self> {
        let stage = Self::of(ending.not_before, ending.not_after, now)?;
        // Revocation lists are made anew all the time, and many at the last moment.
        let is_early = ending.kind == EndingKind::RevocationList && stage < Self::Day;
        (!is_early).then_some(stage)
    }

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

/// Something whose end came a stage nearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// What it is.
    pub(crate) ending: Ending,
    /// How near its end is.
    pub(crate) stage: Stage,
}

/// What was said about each one, so that each stage is told once.
#[derive(Debug, Default)]
pub(crate) struct ExpiryWatch {
    told: Vec<(Ending, Stage)>,
}

impl ExpiryWatch {
    /// What is new to say about these; others are forgotten.
    pub(crate) fn warnings(&mut self, endings: &[Ending], now: Moment) -> Vec<Warning> {
        self.told.retain(|(told, _)| endings.contains(told));
        let mut warnings = Vec::new();
        for ending in endings {
            let Some(stage) = Stage::of_ending(ending, now) else { continue };
            match self.told.iter_mut().find(|(told, _)| told == ending) {
                Some((_, told)) if *told >= stage => continue,
                Some((_, told)) => *told = stage,
                None => self.told.push((ending.clone(), stage)),
            }
            warnings.push(Warning { ending: ending.clone(), stage });
        }
        warnings
    }
}

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = SECONDS_PER_DAY;

    fn ending(kind: EndingKind, serial: &str) -> Ending {
        let (name, subject) = ("/ca.crt".to_owned(), "CN=clients".to_owned());
        Ending { kind, name, subject, serial: serial.into(), not_before: 0, not_after: 90 * DAY }
    }

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
    fn each_stage_of_each_one_is_told_once() {
        let mut watch = ExpiryWatch::default();
        let mut stages = |endings: &[Ending], day: i64| -> Vec<Stage> {
            watch.warnings(endings, Moment(day * DAY)).into_iter().map(|warning| warning.stage).collect()
        };
        let first = [ending(EndingKind::Own, "0A")];
        assert_eq!(stages(&first, 10), []);
        assert_eq!(stages(&first, 61), [Stage::Month]);
        assert_eq!(stages(&first, 62), []);
        assert_eq!(stages(&first, 91), [Stage::Expired]);
        let second = [ending(EndingKind::Own, "0A"), ending(EndingKind::ClientCa, "0A")];
        assert_eq!(stages(&second, 91), [Stage::Expired], "one serial, but another thing");
        assert_eq!(stages(&[], 91), []);
        assert_eq!(stages(&first, 91), [Stage::Expired], "it was gone, and is back");
    }

    #[test]
    fn a_revocation_list_is_told_of_on_its_last_day() {
        let list = ending(EndingKind::RevocationList, "01");
        assert_eq!(Stage::of_ending(&list, Moment(84 * DAY)), None);
        assert_eq!(Stage::of_ending(&list, Moment(90 * DAY - 1)), Some(Stage::Day));
        assert_eq!(Stage::of_ending(&list, Moment(90 * DAY + 1)), Some(Stage::Expired));
    }
}
