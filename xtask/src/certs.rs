//! `cargo xtask certs`: certificates for trying things. This program links no cryptography, so another one makes them.

use anyhow::Result;

use crate::cargo::{cargo, succeed};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For the program that makes them: see `cargo xtask certs -- --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn certs(arguments: &Arguments) -> Result<()> {
    succeed(cargo().args(["run", "--quiet", "--package", "tests", "--bin", "certs", "--"]).args(&arguments.rest))
}
