//! The product's programs, in the target folder of the running test and as fresh as the sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, bail};

/// The supervisor's and router's program, built once for each test process.
pub fn sni_router() -> Result<PathBuf> {
    BUILT.as_ref().map_err(|error| anyhow!("{error}"))?;
    beside_us("sni-router")
}

/// A program in the folder that cargo put the running one into; not built here.
pub fn beside_us(name: &str) -> Result<PathBuf> {
    let program = profile_folder()?.join(name);
    if !program.is_file() {
        bail!("{} is missing: cargo build -p router-user -p terminator", program.display());
    }
    Ok(program)
}

/// The target folder itself.
pub fn target_folder() -> Result<PathBuf> {
    let folder = profile_folder()?;
    Ok(folder.parent().context("a target folder has a profile's folder in it")?.to_path_buf())
}

/// The workspace's folder in the source tree.
pub fn workspace_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Cargo puts tests into `target/PROFILE/deps` and programs into `target/PROFILE`.
fn profile_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("path of the running program")?;
    let folder = program.parent().context("a program is in a folder")?;
    let folder =
        if folder.ends_with("deps") { folder.parent().context("deps is in a profile's folder")? } else { folder };
    Ok(folder.to_path_buf())
}

/// `cargo test` does not build the programs of other packages; without this, scenarios would run yesterday's router.
fn build() -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let folder = profile_folder()?;
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "router-user", "--package", "terminator"]);
    build.arg("--target-dir").arg(target_folder()?).current_dir(workspace_folder());
    if folder.ends_with("release") {
        build.arg("--release");
    }
    let done = build.output().context("start cargo build")?;
    if !done.status.success() {
        bail!("cargo build of the programs under test failed:\n{}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

static BUILT: LazyLock<Result<()>> = LazyLock::new(build);
