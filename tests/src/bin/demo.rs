//! `cargo xtask run`: two tenants on one port, each with its own kind of TLS, until Ctrl-C.

use std::process::ExitCode;

use clap::Parser;
use tests::demo::{Options, run};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
