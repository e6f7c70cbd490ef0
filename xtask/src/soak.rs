//! `cargo xtask soak`: the scenario of short connections under cut-through, alone and with ten times as many. Needs root,
//! and a machine on which nobody else opens connections meanwhile.

use anyhow::Result;

use crate::cargo::{cargo, succeed};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many
    #[arg(long, default_value_t = 200_000)]
    connections: u64,
}

pub(crate) fn soak(arguments: &Arguments) -> Result<()> {
    let mut test = cargo();
    test.env("CI", "true").env("SNI_ROUTER_SOAK", arguments.connections.to_string());
    test.args(["test", "--package", "tests", "--test", "scenarios", "--", "--exact", SCENARIO, "--nocapture"]);
    succeed(&mut test)
}

const SCENARIO: &str = "cut_through::lifetime::short_connections_leave_nothing_behind_and_no_reset_is_sent";
