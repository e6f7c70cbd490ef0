//! `side-by-side`: what `cargo xtask bench` runs after it has built everything.

use anyhow::Result;
use clap::Parser;

fn main() -> Result<()> {
    bench::side_by_side(&bench::Options::parse())
}
