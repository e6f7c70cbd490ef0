//! Which cells there are, and their turns: in each round every cell once, so that whatever else the machine does
//! meanwhile meets all subjects alike.

use std::io::{IsTerminal, Write, stderr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::network::Place;

use crate::backend::Backends;
use crate::cell::{Measure, Mode, Sample};
use crate::load;
use crate::options::Options;
use crate::subject::{Subject, Subjects};
use crate::target::Clients;

/// The cells of a run.
pub(crate) struct Contest<'s> {
    cells: Vec<Cell<'s>>,
}

/// One measure of one subject.
#[derive(Clone, Copy)]
pub(crate) struct Cell<'s> {
    pub(crate) subject: &'s Subject,
    pub(crate) measure: Measure,
}

/// A cell with a sample for each round.
pub(crate) struct Series<'s> {
    pub(crate) cell: Cell<'s>,
    pub(crate) samples: Vec<Sample>,
    /// Why the first connection failed that did.
    pub(crate) first_error: Option<String>,
}

impl Cell<'_> {
    fn name(&self) -> String {
        format!("{}/{}/{}", self.subject.mode.name(), self.measure.name(), self.subject.name)
    }
}

impl<'s> Contest<'s> {
    /// The cells that the options ask for.
    pub(crate) fn new(subjects: &'s Subjects, options: &Options) -> Self {
        let mut contest = Self::all(subjects, options);
        if !options.only.is_empty() {
            contest.cells.retain(|cell| options.only.iter().any(|text| cell.name().contains(text.as_str())));
        }
        contest
    }

    /// Every cell of this kind of run, the subjects of a mode and measure next to each other.
    pub(crate) fn all(subjects: &'s Subjects, options: &Options) -> Self {
        let (modes, measures): (&[Mode], &[Measure]) = if options.data_paths {
            (&[Mode::Passthrough], &Measure::DATA_PATHS)
        } else {
            (&Mode::ALL, &Measure::SIDE_BY_SIDE)
        };
        let tables = modes.iter().flat_map(|mode| measures.iter().map(move |measure| (*mode, *measure)));
        let cells = tables.flat_map(|(mode, measure)| {
            let rows = subjects.list.iter().filter(move |subject| subject.mode == mode);
            rows.map(move |subject| Cell { subject, measure })
        });
        Self { cells: cells.collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// One name a line.
    pub(crate) fn names(&self) -> String {
        self.cells.iter().map(|cell| format!("  {}\n", cell.name())).collect()
    }

    /// Measures every cell in every round.
    pub(crate) fn run(
        &self,
        client: &Place,
        backends: &Backends,
        clients: &Clients,
        options: &Options,
    ) -> Result<Vec<Series<'s>>> {
        let empty = |cell: &Cell<'s>| Series { cell: *cell, samples: Vec::new(), first_error: None };
        let mut results: Vec<Series<'s>> = self.cells.iter().map(empty).collect();
        for round in 1..=options.rounds {
            for series in &mut results {
                let Cell { subject, measure } = series.cell;
                progress(&format!("round {round} of {}: {}", options.rounds, series.cell.name()));
                let target = subject.target(measure.service(), backends, clients)?;
                let measured = load::measure(measure, client, &target, options.seconds, || subject.cpu_time());
                let (sample, error) = measured.with_context(|| series.cell.name())?;
                series.samples.push(sample);
                series.first_error = series.first_error.take().or(error);
                thread::sleep(PAUSE);
            }
        }
        progress("");
        Ok(results)
    }
}

/// A line that the next one overwrites.
fn progress(text: &str) {
    if stderr().is_terminal() {
        let _ = write!(stderr(), "\r\x1b[K{text}");
    }
}

/// What the last connections of a cell still cost is not the next one's.
const PAUSE: Duration = Duration::from_millis(50);
