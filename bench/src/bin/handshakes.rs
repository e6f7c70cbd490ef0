//! `handshakes`: what `cargo xtask bench handshakes` runs after it has built everything.

use anyhow::Result;
use clap::Parser;

fn main() -> Result<()> {
    bench::handshakes(&bench::HandshakeCommand::parse())
}
