//! `cargo xtask ebpf`: the object with the kernel's programs, which is committed so that users need stable Rust alone.

mod record;
mod toolchain;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use self::record::{Record, sources_digest};
use self::toolchain::Toolchain;
use crate::cargo::{cargo, succeed, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing: fail when the committed object is not that of the sources
    #[arg(long)]
    check: bool,
    /// Build target/ebpf/router-ebpf-log.o instead, which tells the router's log of every packet; with --check this
    /// machine's kernel has to accept it
    #[arg(long)]
    log: bool,
}

pub(crate) fn ebpf(arguments: &Arguments) -> Result<()> {
    match arguments {
        Arguments { check, log: true } => with_log(*check),
        Arguments { check: true, .. } => check(),
        _ => rebuild(),
    }
}

/// Never committed; the router's feature `ebpf-log` embeds it.
fn with_log(check: bool) -> Result<()> {
    let object = build(&Toolchain::find_or_install()?, &["--features", "log"])?;
    let path = fs::canonicalize(workspace())?.join(TARGET).join("router-ebpf-log.o");
    fs::write(&path, &object).with_context(|| format!("write {}", path.display()))?;
    if check {
        let test = ["test", "--quiet", "--package", "router-user", "--features", "ebpf-log", "kernel_log"];
        return succeed(cargo().args(test).env("SNI_ROUTER_EBPF_OBJECT", &path));
    }
    println!("SNI_ROUTER_EBPF_OBJECT={} cargo build --package router-user --features ebpf-log", path.display());
    Ok(())
}

fn rebuild() -> Result<()> {
    let toolchain = Toolchain::find_or_install()?;
    let object = build(&toolchain, &[])?;
    let record = Record::new(sources_digest()?, &object, toolchain.version()?);
    fs::write(workspace().join(OBJECT), &object).with_context(|| format!("write {OBJECT}"))?;
    record.write()?;
    println!("{OBJECT}: {} bytes, {}", object.len(), record.toolchain);
    Ok(())
}

/// The digests always; the bytes where the toolchain that is recorded is here or can be had.
fn check() -> Result<()> {
    let record = Record::read()?;
    let committed = fs::read(workspace().join(OBJECT)).with_context(|| format!("read {OBJECT}"))?;
    if record.object != record::digest(&committed) {
        bail!("{OBJECT} is not the object that was recorded with it: cargo xtask ebpf");
    }
    if record.sources != sources_digest()? {
        bail!("{OBJECT} was built from other sources than these: cargo xtask ebpf");
    }
    println!("{OBJECT}: belongs to its sources");
    let toolchain = match Toolchain::find_or_install() {
        Ok(toolchain) => toolchain,
        Err(error) => {
            println!("{OBJECT}: not rebuilt to compare: {error:#}");
            return Ok(());
        }
    };
    let version = toolchain.version()?;
    if version != record.toolchain {
        println!("{OBJECT}: not rebuilt to compare: it was built by {}, and here is {version}", record.toolchain);
        return Ok(());
    }
    if build(&toolchain, &[])? != committed {
        bail!("{OBJECT} differs from what {version} makes of its sources: cargo xtask ebpf");
    }
    println!("{OBJECT}: byte for byte what {version} makes of its sources");
    Ok(())
}

/// The object without debug sections; BTF stays, because the loader reads it.
fn build(toolchain: &Toolchain, features: &[&str]) -> Result<Vec<u8>> {
    let crate_folder = fs::canonicalize(workspace().join("router-ebpf")).context("folder router-ebpf")?;
    let target = fs::canonicalize(workspace())?.join(TARGET);
    let mut build = Command::new("cargo");
    build.current_dir(&crate_folder).args(["build", "--quiet", "--release", "--locked", "-Z", "build-std=core"]);
    build.args(["--target", TRIPLE, "--target-dir"]).arg(&target).args(features);
    // Of the cargo that runs this program; they would lead to its own compiler.
    for variable in
        ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTUP_TOOLCHAIN", "CARGO", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"]
    {
        build.env_remove(variable);
    }
    toolchain.prepare(&mut build)?;
    build.env("RUSTC_WRAPPER", wrapper(&target)?);
    build.env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain)?.join("\x1f"));
    succeed(&mut build)?;
    let linked = target.join(TRIPLE).join("release/router-ebpf");
    let stripped = target.join("router-ebpf.o");
    succeed(toolchain.objcopy()?.arg("--strip-debug").arg(&linked).arg(&stripped))?;
    fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))
}

/// The folders of this machine do not reach the object, so that everybody builds the same bytes.
fn rustflags(toolchain: &Toolchain) -> Result<Vec<String>> {
    let architecture = std::env::consts::ARCH;
    let mut flags = vec![
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    let folders = [(fs::canonicalize(workspace())?, "/sni-router"), (cargo_home()?, "/cargo")];
    for (folder, name) in folders.into_iter().chain(toolchain.folders()?) {
        flags.push(format!("--remap-path-prefix={}={name}", folder.display()));
    }
    Ok(flags)
}

/// A program before the compiler: cargo makes a crate's metadata, and with them the names of its symbols, from the folder
/// that it is in; here it is made from name and version.
fn wrapper(target: &Path) -> Result<PathBuf> {
    let script = target.join("rustc-wrapper");
    fs::create_dir_all(target).with_context(|| format!("make {}", target.display()))?;
    fs::write(&script, WRAPPER).with_context(|| format!("write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

fn cargo_home() -> Result<PathBuf> {
    match (std::env::var_os("CARGO_HOME"), std::env::var_os("HOME")) {
        (Some(folder), _) => Ok(folder.into()),
        (None, Some(home)) => Ok(Path::new(&home).join(".cargo")),
        (None, None) => bail!("neither CARGO_HOME nor HOME is set"),
    }
}

/// What the router embeds.
const OBJECT: &str = "router-ebpf/object/router-ebpf.o";
const TARGET: &str = "target/ebpf";
const WRAPPER: &str = r#"#!/bin/sh
rustc=$1
shift
for argument do
    shift
    case $argument in metadata=*) argument=metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION ;; esac
    set -- "$@" "$argument"
done
exec "$rustc" "$@"
"#;
/// Little-endian, as all machines are that the router runs on.
const TRIPLE: &str = "bpfel-unknown-none";
