//! What a run says: on the screen as tables, in target/bench as JSON.

mod idle;
mod json;
mod machine;
mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tests::binaries::target_folder;
use tests::network::Network;

pub(crate) use self::machine::Machine;
use crate::contest::{Contest, Series};
use crate::idle::Idle;
use crate::options::Options;
use crate::subject::Subjects;

/// What was known before the first round.
pub(crate) struct Report<'r> {
    options: &'r Options,
    network: &'r Network,
    subjects: &'r Subjects,
    machine: Machine,
}

impl<'r> Report<'r> {
    pub(crate) fn begin(options: &'r Options, network: &'r Network, subjects: &'r Subjects) -> Self {
        Self { options, network, subjects, machine: Machine::now() }
    }

    /// Says what is about to be measured, and how.
    pub(crate) fn announce(&self, contest: &Contest<'_>) {
        println!("machine:  {}", self.machine);
        println!("network:  {}", self.network.description);
        println!("programs: {}", self.subjects.versions.join("; "));
        for missing in &self.subjects.missing {
            println!("          {missing}");
        }
        println!("          two workers or threads each, logs off, otherwise as they come");
        println!("method:   {METHOD}");
        let (rounds, seconds) = (self.options.rounds, self.options.seconds.as_secs_f64());
        let cells = contest.len();
        let minutes = f64::from(rounds) * cells as f64 * (seconds + OVERHEAD_SECONDS) / 60.0;
        println!("          {cells} cells, {rounds} rounds of {seconds} s, about {minutes:.0} minutes\n");
    }

    /// The tables.
    pub(crate) fn print(&self, results: &[Series<'_>], idle: &[Idle<'_>]) {
        table::print(results);
        if !idle.is_empty() {
            idle::print(idle, self.options.idle);
        }
    }

    /// Everything, round by round.
    pub(crate) fn write_json(&self, results: &[Series<'_>], idle: &[Idle<'_>]) -> Result<()> {
        let folder = target_folder()?.join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let path: PathBuf = folder.join(if self.options.data_paths { "data-paths.json" } else { "side-by-side.json" });
        let text = format!("{:#}\n", json::document(self, results, idle));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        println!("every round: {}", path.display());
        Ok(())
    }
}

const METHOD: &str = "interleaved rounds, medians of the rounds; ratios are medians of each round's ratio; backend and
          load generator share the processor with the router; full handshakes only: TLS 1.3, ECDSA P-256,
          X25519 (-mlkem: X25519MLKEM768), clients resume nothing";

/// Warm-up and pause of each cell.
const OVERHEAD_SECONDS: f64 = 0.3;
