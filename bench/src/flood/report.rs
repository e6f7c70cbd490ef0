//! What the run says: a table, and every round as JSON.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::binaries::target_folder;
use tests::network::Network;

use super::{FloodOptions, Sample, Series, To};
use crate::report::Machine;
use crate::statistics::median;

pub(super) fn begin(options: &FloodOptions, network: &Network) {
    println!("machine:  {}", Machine::now());
    println!("network:  {}", network.description);
    println!("method:   {METHOD}");
    println!(
        "          {} rounds of {} s each; limit {}/s, flood {}/s, the other tenant {}/s; dataPath {}\n",
        options.rounds,
        options.seconds,
        options.limit,
        10 * options.limit,
        options.rate,
        options.data_path
    );
}

/// Medians of the rounds, and medians of each round's ratios.
pub(super) fn print(all: &[Series]) {
    for series in all {
        println!("{}: a connection of the tenant that is not flooded, up to its first answer, ms", series.mode);
        println!("  {:<28}{:>8}{:>8}{:>16}{:>16}", "flood", "p50", "p99", "x quiet (p99)", "flood refused");
        for to in To::ALL {
            let samples = &series.samples[to as usize];
            let refused: u64 = samples.iter().map(|sample| sample.refused).sum();
            let flood: u64 = samples.iter().map(|sample| sample.flood).sum();
            println!(
                "  {:<28}{:>8.2}{:>8.2}{:>16.2}{:>16}",
                label(to),
                median(samples.iter().map(|sample| milliseconds(sample.p50))).unwrap_or_default(),
                median(samples.iter().map(|sample| milliseconds(sample.p99))).unwrap_or_default(),
                ratio(series, to).unwrap_or_default(),
                if flood == 0 { String::new() } else { format!("{:.0} %", 100.0 * refused as f64 / flood as f64) },
            );
        }
        println!();
    }
}

/// Everything, round by round.
pub(super) fn write_json(options: &FloodOptions, network: &Network, all: &[Series]) -> Result<()> {
    let folder = target_folder()?.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join("flood.json");
    let sample = |sample: &Sample| {
        json!({
            "p50": milliseconds(sample.p50),
            "p99": milliseconds(sample.p99),
            "connections": sample.connections,
            "flood": sample.flood,
            "refused": sample.refused,
        })
    };
    let rows: Vec<Value> = all
        .iter()
        .flat_map(|series| To::ALL.map(|to| (series, to)))
        .map(|(series, to)| {
            json!({
                "mode": series.mode,
                "flood": label(to),
                "ratioOfP99": ratio(series, to),
                "samples": series.samples[to as usize].iter().map(sample).collect::<Vec<_>>(),
            })
        })
        .collect();
    let document = json!({
        "machine": Machine::now().to_string(),
        "network": network.description,
        "method": METHOD,
        "limit": options.limit,
        "rate": options.rate,
        "dataPath": options.data_path,
        "rows": rows,
    });
    fs::write(&path, serde_json::to_string_pretty(&document)?).with_context(|| format!("write {}", path.display()))?;
    println!("all rounds: {}", path.display());
    Ok(())
}

/// The median of each round's p99 over that of the same round without a flood.
fn ratio(series: &Series, to: To) -> Option<f64> {
    let pairs = series.samples[to as usize].iter().zip(&series.samples[To::Nobody as usize]);
    median(pairs.map(|(sample, quiet)| sample.p99.as_secs_f64() / quiet.p99.as_secs_f64()))
}

fn label(to: To) -> &'static str {
    match to {
        To::Nobody => "none",
        To::TheOtherTenant => "the other tenant",
        To::AProgramThatRefuses => "a program that only refuses",
    }
}

fn milliseconds(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

const METHOD: &str =
    "clients at a steady pace, each time from the planned begin; quiet, flooded and flood elsewhere take turns";
