//! The compiler and linker for eBPF: a rustup nightly with rust-src where there is one, else a private one from Debian's
//! packages, unpacked below the target folder and never installed.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::{output, succeed, workspace};

pub(super) enum Toolchain {
    /// rustup's nightly; bpf-linker and llvm-objcopy are in PATH.
    Rustup {
        /// `rustc --print sysroot`.
        sysroot: PathBuf,
    },
    /// Unpacked Debian packages, and a bpf-linker that was built against their LLVM.
    Private {
        /// Absolute.
        folder: PathBuf,
    },
}

impl Toolchain {
    pub(super) fn find_or_install() -> Result<Self> {
        if let Some(sysroot) = nightly_with_sources() {
            return Ok(Self::Rustup { sysroot });
        }
        let folder = fs::canonicalize(workspace())?.join(FOLDER);
        if !folder.join(COMPLETE).exists() {
            install(&folder).context(ADVICE)?;
        }
        // The compiler names its own sources by canonical paths, which have to be those that are remapped.
        let folder = fs::canonicalize(&folder).with_context(|| format!("{} is not there", folder.display()))?;
        Ok(Self::Private { folder })
    }

    /// All that has a say in the object's bytes.
    pub(super) fn version(&self) -> Result<String> {
        let rustc = output(self.rustc().arg("-vV"))?;
        let mut lines = rustc.lines();
        let name = lines.next().unwrap_or_default();
        let llvm = lines.find_map(|line| line.strip_prefix("LLVM version: ")).unwrap_or("unknown");
        let linker = match self {
            Self::Rustup { .. } => Command::new("bpf-linker"),
            Self::Private { folder } => Command::new(folder.join("bin/bpf-linker")),
        };
        let linker = output({ linker }.arg("--version"))?;
        Ok(format!("{name}, LLVM {llvm}, {}", linker.trim()))
    }

    /// Makes `cargo` compile with this toolchain.
    pub(super) fn prepare(&self, cargo: &mut Command) -> Result<()> {
        match self {
            Self::Rustup { .. } => {
                cargo.env("RUSTUP_TOOLCHAIN", "nightly");
            }
            Self::Private { folder } => {
                let path = env::var_os("PATH").unwrap_or_default();
                let folders = std::iter::once(folder.join("bin")).chain(env::split_paths(&path));
                // Debian's compiler is a stable one; build-std is for nightly ones.
                cargo.env("RUSTC", folder.join("bin/rustc")).env("RUSTC_BOOTSTRAP", "1");
                cargo.env("PATH", env::join_paths(folders)?);
            }
        }
        Ok(())
    }

    /// Its folders, and what the object calls them.
    pub(super) fn folders(&self) -> Result<Vec<(PathBuf, &'static str)>> {
        match self {
            Self::Rustup { sysroot } => Ok(vec![(sysroot.join("lib/rustlib/src/rust"), RUST)]),
            Self::Private { folder } => {
                let link = folder.join("usr/lib/rustlib/src/rust");
                let sources = fs::canonicalize(&link).with_context(|| format!("{} is not there", link.display()))?;
                Ok(vec![(folder.join("usr"), "/toolchain"), (link, RUST), (sources, RUST)])
            }
        }
    }

    pub(super) fn objcopy(&self) -> Result<Command> {
        match self {
            Self::Rustup { .. } => Ok(Command::new("llvm-objcopy")),
            Self::Private { folder } => {
                let llvm = fs::read_dir(folder.join("usr/lib"))?.flatten().map(|entry| entry.path());
                let program = llvm.map(|llvm| llvm.join("bin/llvm-objcopy")).find(|program| program.exists());
                let mut objcopy = Command::new(program.context("no llvm-objcopy in the private toolchain")?);
                objcopy.env("LD_LIBRARY_PATH", library_folder(folder));
                Ok(objcopy)
            }
        }
    }

    fn rustc(&self) -> Command {
        match self {
            Self::Rustup { .. } => {
                let mut rustc = Command::new("rustc");
                rustc.arg("+nightly").env_remove("RUSTUP_TOOLCHAIN");
                rustc
            }
            Self::Private { folder } => Command::new(folder.join("bin/rustc")),
        }
    }
}

/// The sysroot of rustup's nightly, if it and its companions can build for eBPF.
fn nightly_with_sources() -> Option<PathBuf> {
    let mut rustc = Command::new("rustc");
    rustc.args(["+nightly", "--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN").stderr(Stdio::null());
    let sysroot = PathBuf::from(output(&mut rustc).ok()?.trim());
    let works = |program: &str| {
        let mut version = Command::new(program);
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    };
    let sources = sysroot.join("lib/rustlib/src/rust/library/core").is_dir();
    (sources && works("bpf-linker") && works("llvm-objcopy")).then_some(sysroot)
}

/// Downloads, unpacks, and builds the linker; about a minute. Nothing leaves `folder`.
fn install(folder: &Path) -> Result<()> {
    eprintln!("installing a private eBPF toolchain in {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    let packages = folder.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("make {}", packages.display()))?;
    let library = dependency("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm_library = dependency(&library, "libllvm")?;
    let major = llvm_library.trim_start_matches("libllvm");
    let llvm = format!("llvm-{major}");
    let mut download = Command::new("apt-get");
    download.args(["download", "--quiet=2", "rustc-web", &library, "libstd-rust-web-dev", "rust-web-src"]);
    succeed(download.args([&llvm_library, &llvm]).current_dir(&packages).stdout(Stdio::null()))?;
    for package in fs::read_dir(&packages)? {
        succeed(Command::new("dpkg").arg("-x").arg(package?.path()).arg(folder))?;
    }
    fs::remove_dir_all(&packages)?;
    compiler(folder)?;
    linker(folder, major)?;
    fs::write(folder.join(COMPLETE), "").context("mark the toolchain complete")
}

/// Debian's rustc, which finds its libraries in `folder`, beside the cargo that runs this program.
fn compiler(folder: &Path) -> Result<()> {
    let programs = folder.join("bin");
    fs::create_dir_all(&programs)?;
    let rustc = programs.join("rustc");
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
        library_folder(folder).display(),
        folder.join("usr/bin/rustc").display()
    );
    fs::write(&rustc, script)?;
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755))?;
    let cargo = env::var_os("CARGO").context("CARGO is not set: start with cargo xtask")?;
    symlink(cargo, programs.join("cargo")).context("link cargo")
}

/// bpf-linker, against the LLVM of the compiler.
fn linker(folder: &Path, llvm: &str) -> Result<()> {
    let libraries = library_folder(folder);
    let named = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libLLVM.so.");
    let library = fs::read_dir(&libraries)?.flatten().find(named).context("the LLVM package has no libLLVM.so")?;
    let links = folder.join("llvm/lib");
    fs::create_dir_all(&links)?;
    for name in ["libLLVM.so".into(), library.file_name(), format!("libLLVM-{llvm}.so").into()] {
        symlink(library.path(), links.join(name)).context("link libLLVM")?;
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--quiet", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--no-default-features"]);
    cargo.args(["--features", &format!("llvm-{llvm}"), "--root"]).arg(folder).arg("--target-dir");
    cargo.arg(folder.join("build")).env("LLVM_PREFIX", folder.join("llvm"));
    succeed(&mut cargo)?;
    fs::remove_dir_all(folder.join("build")).context("remove what is left of the build")
}

/// The first dependency of a Debian package whose name begins so; versions move with security updates.
fn dependency(package: &str, beginning: &str) -> Result<String> {
    let shown = output(Command::new("apt-cache").args(["show", "--no-all-versions", package]))?;
    let dependencies =
        shown.lines().filter_map(|line| line.strip_prefix("Depends: ")).flat_map(|list| list.split(", "));
    let mut names = dependencies.filter_map(|dependency| dependency.split(' ').next());
    match names.find(|name| name.starts_with(beginning)) {
        Some(name) => Ok(name.to_owned()),
        None => bail!("the Debian package {package} depends on no {beginning}*"),
    }
}

fn library_folder(folder: &Path) -> PathBuf {
    folder.join("usr/lib").join(format!("{}-linux-gnu", env::consts::ARCH))
}

const FOLDER: &str = "target/ebpf-toolchain";
/// There once the folder is whole.
const COMPLETE: &str = "complete";
/// The version whose output is committed.
const LINKER_VERSION: &str = "0.13.0";
/// What the object calls the folder of the standard library's sources.
const RUST: &str = "/rust";
const ADVICE: &str = "no eBPF toolchain: rustup toolchain install nightly --component rust-src, \
    cargo install bpf-linker and an llvm-objcopy in PATH; or a Debian with its packages rustc-web and llvm";
