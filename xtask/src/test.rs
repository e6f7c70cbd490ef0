//! `cargo xtask test`: all tests, after what they need.

use anyhow::Result;

use crate::cargo::{cargo, succeed};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose path holds this
    filter: Option<String>,
    /// For the test harness, such as `-- --nocapture`
    #[arg(last = true)]
    harness: Vec<String>,
}

/// Scenarios build the programs under test themselves, so that `cargo test` alone is right too.
pub(crate) fn test(arguments: &Arguments) -> Result<()> {
    succeed(cargo().args(["run", "--quiet", "--package", "tests", "--bin", "test-tools"]))?;
    eprintln!("one scenario: cargo xtask test NAME     all names: cargo xtask test -- --list");
    let mut test = cargo();
    test.args(["test", "--workspace"]).args(&arguments.filter).arg("--").args(&arguments.harness);
    succeed(&mut test)
}
