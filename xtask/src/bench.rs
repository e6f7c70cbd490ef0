//! `cargo xtask bench`: sni-router beside its peers, or the micro benches.

use std::process::Command;

use anyhow::Result;

use crate::cargo::{cargo, released, succeed};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only what reading a hello and finding its tenant cost, without routers
    #[arg(long)]
    micro: bool,
    /// What terminators cost: the first connection of a tenant, and the memory of many
    #[arg(long, conflicts_with = "micro")]
    terminators: bool,
    /// For the program that measures: see `cargo xtask bench -- --help`; with --micro for criterion, such as a bench's
    /// name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    if arguments.micro {
        return succeed(cargo().args(["bench", "--package", "bench", "--benches", "--"]).args(&arguments.rest));
    }
    let packages = ["router-user", "terminator", "bench"].map(|package| ["--package", package]);
    let measuring = if arguments.terminators { "terminators" } else { "side-by-side" };
    let programs = ["sni-router", "sni-terminator", measuring].map(|program| ["--bin", program]);
    succeed(cargo().args(["build", "--release"]).args(packages.concat()).args(programs.concat()))?;
    succeed(Command::new(released(measuring)?).args(&arguments.rest))
}
