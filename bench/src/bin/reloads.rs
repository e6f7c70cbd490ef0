//! `reloads`: what `cargo xtask bench reloads` runs after it has built everything.

use anyhow::Result;
use clap::Parser;

fn main() -> Result<()> {
    bench::reloads(&bench::ReloadOptions::parse())
}
