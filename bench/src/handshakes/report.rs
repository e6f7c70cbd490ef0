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
                    "  {:<14}{:>8}{:>9}{:>9}{:>15}{:>11}{:>13}{:>15}{:>11}",
                    "",
                    "median",
                    "lowest",
                    "highest",
                    "x one process",
                    "x haproxy",
                    "CPU us each",
                    "x one process",
                    "x haproxy"
                );
                for row in &rows {
                    let (lowest, highest) = range(row.samples.iter().filter_map(rate)).unwrap_or_default();
                    println!(
                        "  {:<14}{:>8}{lowest:>9.0}{highest:>9.0}{:>15}{:>11}{:>13}{:>15}{:>11}",
                        row.cell.subject.name,
                        number(median(row.samples.iter().filter_map(rate)), 0),
                        ratio(row, &rows, "one process", rate),
                        ratio(row, &rows, "haproxy", rate),
                        number(median(row.samples.iter().filter_map(cpu)), 0),
                        ratio(row, &rows, "one process", cpu),
                        ratio(row, &rows, "haproxy", cpu),
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
                "cpuMicroseconds": cpu(measured),
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

#[expect(clippy::unnecessary_wraps, reason = "the same shape as `cpu`")]
fn rate(measured: &Measured) -> Option<f64> {
    Some(measured.per_second)
}

fn cpu(measured: &Measured) -> Option<f64> {
    measured.cpu.map(|cpu| cpu.as_secs_f64() * 1e6)
}

/// The median of each round's ratio to the subject of this name.
fn ratio(row: &Series<'_>, rows: &[&Series<'_>], base: &str, value: fn(&Measured) -> Option<f64>) -> String {
    let Some(base) = rows.iter().find(|other| other.cell.subject.name == base) else { return String::new() };
    let pairs = row.samples.iter().zip(&base.samples).filter_map(|(own, base)| value(own).zip(value(base)));
    number(median(pairs.filter(|(_, base)| *base > 0.0).map(|(own, base)| own / base)), 2)
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.decimals$}"))
}

const METHOD: &str =
    "interleaved rounds, medians of the rounds; ratios are medians of each round's ratio; clients and backend
          share the processor with the server; 32 clients at once, each handshake with a request and an answer over a
          new connection to the backend; TLS 1.3, X25519, ECDSA P-256 or RSA 2048; two workers each";
