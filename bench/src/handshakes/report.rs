//! What the run says: a table for each kind and key, and every round as JSON.

use std::fs;
use std::io::{IsTerminal, Write, stderr};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::binaries::target_folder;
use tests::network::Network;

use super::load::Measured;
use super::{HandshakeCommand, Key, Kind, Series, Subjects};
use crate::report::Machine;
use crate::statistics::{median, range};

/// What was known before the first round.
pub(super) struct Report<'r> {
    command: &'r HandshakeCommand,
    network: &'r Network,
    machine: Machine,
}

impl<'r> Report<'r> {
    /// Says what is about to be measured, and how.
    pub(super) fn begin(command: &'r HandshakeCommand, network: &'r Network, subjects: &Subjects) -> Self {
        let machine = Machine::now();
        println!("machine:  {machine}");
        println!("network:  {}", network.description);
        subjects.missing.iter().for_each(|missing| println!("          {missing}"));
        println!("method:   {METHOD}");
        println!("          {} rounds of {} s for each cell\n", command.rounds, command.seconds);
        Self { command, network, machine }
    }

    /// A line that the next one overwrites.
    pub(super) fn progress(&self, text: &str) {
        if stderr().is_terminal() {
            let _ = write!(stderr(), "\r\x1b[K{text}");
        }
    }

    /// Medians of the rounds, and medians of each round's ratios.
    pub(super) fn print(&self, all: &[Series<'_>]) {
        self.progress("");
        for kind in [Kind::Full, Kind::Resumed] {
            for key in Key::ALL {
                let rows: Vec<_> =
                    all.iter().filter(|series| series.cell.kind == kind && series.cell.key == key).collect();
                println!("{kind:?} handshakes per second, {key:?}");
                println!(
                    "  {:<14}{:>8}{:>9}{:>9}{:>15}{:>11}{:>12}",
                    "", "median", "lowest", "highest", "x one process", "x haproxy", "CPU us each"
                );
                for row in &rows {
                    let rate = |measured: &Measured| measured.per_second;
                    let (lowest, highest) = range(row.samples.iter().map(rate)).unwrap_or_default();
                    let cpu = row.samples.iter().filter_map(|measured| Some(measured.cpu?.as_secs_f64() * 1e6));
                    println!(
                        "  {:<14}{:>8.0}{lowest:>9.0}{highest:>9.0}{:>15}{:>11}{:>12}",
                        row.cell.subject.name,
                        median(row.samples.iter().map(rate)).unwrap_or_default(),
                        ratio(row, &rows, "one process"),
                        ratio(row, &rows, "haproxy"),
                        median(cpu).map_or_else(String::new, |cpu| format!("{cpu:.0}")),
                    );
                    let errors: u64 = row.samples.iter().map(|measured| measured.errors).sum();
                    if errors > 0 {
                        println!("                {errors} connections failed or were not {kind:?}");
                    }
                }
                println!();
            }
        }
    }

    /// Everything, round by round.
    pub(super) fn write_json(&self, all: &[Series<'_>]) -> Result<()> {
        let folder = target_folder()?.join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let path = folder.join("handshakes.json");
        let sample = |measured: &Measured| {
            json!({
                "perSecond": measured.per_second,
                "cpuMicroseconds": measured.cpu.map(|cpu| cpu.as_secs_f64() * 1e6),
                "errors": measured.errors,
            })
        };
        let cells: Vec<Value> = all
            .iter()
            .map(|series| {
                json!({
                    "subject": series.cell.subject.name,
                    "key": series.cell.key.label(),
                    "kind": format!("{:?}", series.cell.kind).to_lowercase(),
                    "samples": series.samples.iter().map(sample).collect::<Vec<_>>(),
                })
            })
            .collect();
        let document = json!({
            "machine": self.machine.to_string(),
            "network": self.network.description,
            "method": METHOD,
            "rounds": self.command.rounds,
            "seconds": self.command.seconds,
            "cells": cells,
        });
        fs::write(&path, format!("{document:#}\n")).with_context(|| format!("write {}", path.display()))?;
        println!("every round: {}", path.display());
        Ok(())
    }
}

fn ratio(row: &Series<'_>, rows: &[&Series<'_>], base: &str) -> String {
    let Some(base) = rows.iter().find(|other| other.cell.subject.name == base) else { return String::new() };
    let pairs = row.samples.iter().zip(&base.samples);
    let ratios = pairs.filter(|(_, base)| base.per_second > 0.0).map(|(own, base)| own.per_second / base.per_second);
    median(ratios).map_or_else(String::new, |ratio| format!("{ratio:.3}"))
}

const METHOD: &str =
    "interleaved rounds, medians of the rounds; ratios are medians of each round's ratio; clients and backend
          share the processor with the server; 32 clients at once, each handshake with a request and an answer over a
          new connection to the backend; TLS 1.3, X25519, ECDSA P-256 or RSA 2048; two workers each";
