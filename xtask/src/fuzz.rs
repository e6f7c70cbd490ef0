//! `cargo xtask fuzz`: the ClientHello parser against hostile bytes.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::cargo::{cargo, succeed, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u32,
}

pub(crate) fn fuzz(arguments: &Arguments) -> Result<()> {
    let installed = cargo().args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        eprintln!("installing cargo-fuzz");
        succeed(cargo().args(["install", "--locked", "cargo-fuzz"]))?;
    }
    let corpus = workspace().join(CORPUS);
    fs::create_dir_all(&corpus).with_context(|| format!("make {}", corpus.display()))?;
    // cargo-fuzz passes -Z flags to rustc; RUSTC_BOOTSTRAP lets the pinned stable compiler take them.
    // The parser forbids unsafe code, so a sanitizer would find nothing and cost four fifths of the runs.
    let mut fuzz = cargo();
    fuzz.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", "-s", "none", TARGET, CORPUS, SEEDS, CAPTURES, "--"]);
    succeed(fuzz.arg(format!("-max_total_time={}", arguments.seconds)))
}

const TARGET: &str = "client_hello";
/// New findings go here; it is not committed.
const CORPUS: &str = "fuzz/corpus/client_hello";
/// The committed seeds.
const SEEDS: &str = "fuzz/seeds/client_hello";
/// Hellos of real clients.
const CAPTURES: &str = "client-hello/tests/captures";
