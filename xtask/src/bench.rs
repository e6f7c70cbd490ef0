//! `cargo xtask bench`: the micro benches.

use anyhow::Result;

use crate::cargo::{cargo, succeed};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For criterion, such as a bench's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    criterion: Vec<String>,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    succeed(cargo().args(["bench", "--package", "bench", "--"]).args(&arguments.criterion))
}
