//! The binary sni-router.

use std::process::ExitCode;

use clap::Parser;
use router_user::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    router_user::logging::init();
    cli.run()
}
