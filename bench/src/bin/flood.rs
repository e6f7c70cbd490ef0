//! `flood`: what `cargo xtask bench flood` runs after it has built everything.

use anyhow::Result;
use clap::Parser;

fn main() -> Result<()> {
    bench::flood(&bench::FloodOptions::parse())
}
