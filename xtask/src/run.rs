//! `cargo xtask run`: the demo, or the router with a real configuration.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{cargo, released, succeed};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run this configuration instead of the demo
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the demo's router listens [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    listen: Option<String>,
    /// Where the demo's router answers about itself [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    admin: Option<String>,
}

/// Becomes what it starts, so that Ctrl-C reaches that alone.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", "router-user", "--package", "terminator"]);
    let mut program = match &arguments.config {
        Some(config) => {
            let mut router = Command::new(released("sni-router")?);
            router.args(["run", "--config"]).arg(config);
            router
        }
        None => {
            build.args(["--package", "tests", "--bin", "sni-router", "--bin", "sni-terminator", "--bin", "demo"]);
            let mut demo = Command::new(released("demo")?);
            for (option, address) in [("--listen", &arguments.listen), ("--admin", &arguments.admin)] {
                if let Some(address) = address {
                    demo.args([option, address]);
                }
            }
            demo
        }
    };
    succeed(&mut build)?;
    let error = program.exec();
    Err(error).with_context(|| format!("start {}", program.get_program().display()))
}
