//! `cargo xtask ci`: everything that a change has to pass, one step after the other.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cargo::{cargo, succeed};

/// Stops at the first failure; the summary says how long each step took.
pub(crate) fn ci() -> Result<()> {
    let mut times = Vec::new();
    for (name, words) in STEPS {
        println!("--- {name}: cargo {}", words.join(" "));
        let start = Instant::now();
        let result = succeed(&mut step(words));
        times.push((name, start.elapsed()));
        if result.is_err() {
            summary(&times, "failed");
        }
        result.with_context(|| format!("step {name}"))?;
    }
    summary(&times, "passed");
    Ok(())
}

const STEPS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    ("lint", &["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"]),
    ("edges", &["xtask", "edges"]),
    ("ebpf", &["xtask", "ebpf", "--check"]),
    ("ebpf log", &["xtask", "ebpf", "--log", "--check"]),
    ("test", &["xtask", "test"]),
    ("benches", &["check", "--quiet", "--workspace", "--benches"]),
    ("fuzz", &["xtask", "fuzz", "--seconds", "60"]),
];

/// `CI=true` makes a missing client a failure instead of a skip.
fn step(words: &[&str]) -> Command {
    let mut step = cargo();
    step.args(words).env("CI", "true");
    step
}

fn summary(times: &[(&&str, Duration)], last: &str) {
    println!("---");
    let count = times.len();
    for (number, (name, time)) in times.iter().enumerate() {
        let outcome = if number + 1 == count { last } else { "passed" };
        println!("{name:<10} {outcome}  {:>5} s", time.as_secs());
    }
    let failed = usize::from(last != "passed");
    println!("steps: {} passed, {failed} failed", count - failed);
}
