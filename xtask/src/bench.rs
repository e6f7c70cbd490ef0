//! `cargo xtask bench`: sni-router beside its peers, its data paths beside each other, its handshakes beside the peers', a
//! flood, reloads, or the micro benches.

use std::process::Command;

use anyhow::Result;

use crate::cargo::{cargo, released, succeed};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    kind: Option<Kind>,
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

#[derive(clap::Subcommand)]
enum Kind {
    /// The ways of a Passthrough connection, cut-through to copy, beside the peers and no router at all
    Datapath {
        /// For the program that measures: see `cargo xtask bench datapath -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// What a tenant that is flooded at ten times its limit costs another one
    Flood {
        /// For the program that measures: see `cargo xtask bench flood -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Reloads of 100,000 tenants on a running router, from the change of the file to the first connection by it
    Reloads {
        /// For the program that measures: see `cargo xtask bench reloads -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// TLS handshakes, full and resumed, beside the same rustls in one process and the peers
    Handshakes {
        /// For the program that measures: see `cargo xtask bench handshakes -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
}

pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    if arguments.micro {
        return succeed(cargo().args(["bench", "--package", "bench", "--benches", "--"]).args(&arguments.rest));
    }
    let (program, rest) = match &arguments.kind {
        Some(Kind::Handshakes { rest }) => ("handshakes", rest),
        Some(Kind::Datapath { rest }) => ("side-by-side", rest),
        Some(Kind::Flood { rest }) => ("flood", rest),
        Some(Kind::Reloads { rest }) => ("reloads", rest),
        None if arguments.terminators => ("terminators", &arguments.rest),
        None => ("side-by-side", &arguments.rest),
    };
    let packages = ["router-user", "terminator", "bench"].map(|package| ["--package", package]);
    let programs = ["sni-router", "sni-terminator", program].map(|program| ["--bin", program]);
    succeed(cargo().args(["build", "--release"]).args(packages.concat()).args(programs.concat()))?;
    let mut run = Command::new(released(program)?);
    if let Some(Kind::Datapath { .. }) = &arguments.kind {
        run.arg("--data-paths");
    }
    succeed(run.args(rest))
}
