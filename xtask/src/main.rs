//! `cargo xtask …`: the commands that a person types to run, test, check and measure sni-router.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bench;
mod cargo;
mod certs;
mod ci;
mod ebpf;
mod edges;
mod fuzz;
mod run;
mod soak;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What one does with this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build, then show two tenants on one port; with --config run a real configuration
    Run(run::Arguments),
    /// Install the test clients, then run every test
    Test(test::Arguments),
    /// Everything that a change has to pass
    Ci,
    /// Build the eBPF object that is committed; with --check compare it with its sources
    Ebpf(ebpf::Arguments),
    /// Check which crate may depend on which
    Edges,
    /// Fuzz the ClientHello parser
    Fuzz(fuzz::Arguments),
    /// Make a CA, and server and client certificates for trying things
    Certs(certs::Arguments),
    /// Run the benchmarks
    Bench(bench::Arguments),
    /// Send a storm of short connections through the kernel's data path and look for what is left behind
    Soak(soak::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Ci => ci::ci(),
        Command::Ebpf(arguments) => ebpf::ebpf(&arguments),
        Command::Edges => edges::edges(),
        Command::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Command::Certs(arguments) => certs::certs(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Soak(arguments) => soak::soak(&arguments),
    }
}
