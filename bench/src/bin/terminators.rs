//! `terminators`: what `cargo xtask bench --terminators` runs after it has built everything.

use anyhow::Result;
use clap::Parser;

fn main() -> Result<()> {
    bench::terminators(&bench::TerminatorOptions::parse())
}
