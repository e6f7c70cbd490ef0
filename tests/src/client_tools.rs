//! The real clients and peers that scenarios run: where each is found, how it is installed, what happens when it is missing.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, bail};

use crate::binaries::{target_folder, workspace_folder};

/// A program that a scenario needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// curl.
    Curl,
    /// `openssl s_client`.
    OpenSsl,
    /// gnutls-cli.
    GnuTlsCli,
    /// The Go toolchain, which builds the client in tests/clients/go.
    Go,
    /// A Python with curl_cffi, whose hellos have the shape of browsers'.
    CurlCffi,
    /// A Python with grpcio, the C++ implementation of gRPC.
    GrpcIo,
    /// haproxy.
    HaProxy,
    /// nginx with its stream module.
    Nginx,
    /// What checks and tests Prometheus' rules.
    PromTool,
    /// What writes firewall and NAT rules.
    Nft,
    /// What switches the offloads of network cards.
    Ethtool,
    /// testssl.sh.
    TestSsl,
    /// What lets system calls of a running process fail.
    Strace,
    /// The library that gives processes another clock.
    FakeTime,
    /// What reads unit files as systemd does.
    SystemdAnalyze,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Curl,
        Self::OpenSsl,
        Self::GnuTlsCli,
        Self::Go,
        Self::CurlCffi,
        Self::GrpcIo,
        Self::HaProxy,
        Self::Nginx,
        Self::PromTool,
        Self::Nft,
        Self::Ethtool,
        Self::TestSsl,
        Self::Strace,
        Self::FakeTime,
        Self::SystemdAnalyze,
    ];

    /// What a person would call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::OpenSsl => "openssl",
            Self::GnuTlsCli => "gnutls-cli",
            Self::Go => "go",
            Self::CurlCffi => "curl_cffi",
            Self::GrpcIo => "grpcio",
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
            Self::PromTool => "promtool",
            Self::Nft => "nft",
            Self::Ethtool => "ethtool",
            Self::TestSsl => "testssl",
            Self::Strace => "strace",
            Self::FakeTime => "libfaketime",
            Self::SystemdAnalyze => "systemd-analyze",
        }
    }

    /// Where it is, if it is installed.
    pub fn find(self) -> Option<PathBuf> {
        match self {
            Self::CurlCffi => python_with("curl_cffi"),
            Self::GrpcIo => python_with("grpc"),
            Self::FakeTime => multiarch_library("faketime/libfaketimeMT.so.1"),
            Self::Nginx => search_path(self.name()).filter(|nginx| has_stream(nginx)),
            in_path => search_path(in_path.name()),
        }
    }

    /// What pip installs, pinned: with curl_cffi its profiles and so the hellos change, with grpcio its TLS.
    fn pypi_package(self) -> Option<&'static str> {
        match self {
            Self::CurlCffi => Some("curl_cffi==0.16.3"),
            Self::GrpcIo => Some("grpcio==1.85.1"),
            _ => None,
        }
    }

    /// The Debian packages that bring it, or the one that `pip install` stands on.
    fn debian_packages(self) -> &'static [&'static str] {
        match self {
            Self::Curl => &["curl"],
            Self::OpenSsl => &["openssl"],
            Self::GnuTlsCli => &["gnutls-bin"],
            Self::Go => &["golang-go"],
            Self::CurlCffi | Self::GrpcIo => &["python3-venv"],
            Self::HaProxy => &["haproxy"],
            Self::Nginx => &["nginx", "libnginx-mod-stream"],
            Self::PromTool => &["prometheus"],
            Self::Nft => &["nftables"],
            Self::Ethtool => &["ethtool"],
            Self::TestSsl => &["testssl.sh", "bsdmainutils", "dnsutils"],
            Self::Strace => &["strace"],
            Self::FakeTime => &["libfaketime"],
            Self::SystemdAnalyze => &["systemd"],
        }
    }
}

/// The tool, or `None` after a line on the standard error that says what is skipped; with `CI=true` an error instead.
pub fn require(tool: Tool, scenario: &str) -> Result<Option<PathBuf>> {
    match tool.find() {
        Some(program) => Ok(Some(program)),
        None => {
            skip(scenario, &format!("{} is not installed: cargo xtask test installs it", tool.name())).map(|()| None)
        }
    }
}

/// Whether we are root; if not, says what is skipped, and with `CI=true` is an error.
pub fn require_root(scenario: &str) -> Result<bool> {
    if nix::unistd::geteuid().is_root() {
        return Ok(true);
    }
    skip(scenario, "it needs root").map(|()| false)
}

/// The Go client, built from tests/clients/go with the standard library alone.
pub fn go_client() -> Result<PathBuf> {
    GO_CLIENT.as_ref().map(Clone::clone).map_err(|error| anyhow!("{error:#}"))
}

/// The script that curl_cffi's Python runs.
pub fn curl_cffi_script() -> PathBuf {
    workspace_folder().join("tests/clients/browser.py")
}

/// A script of tests/clients that grpcio's Python runs.
pub fn grpc_script(name: &str) -> PathBuf {
    workspace_folder().join("tests/clients/grpc").join(name)
}

/// Installs what is missing of everything; what cannot be installed gets one line each.
pub fn install_missing() -> Result<()> {
    install_missing_of(&Tool::ALL)
}

/// Installs what is missing of these.
pub fn install_missing_of(tools: &[Tool]) -> Result<()> {
    let missing: Vec<Tool> = tools.iter().copied().filter(|tool| tool.find().is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.debian_packages()).copied().collect();
    if nix::unistd::geteuid().is_root() && search_path("apt-get").is_some() {
        say(&format!("installing from Debian: {}", packages.join(" ")));
        apt_get(&["update", "-qq"])?;
        apt_get(&[["install", "-qq", "--yes", "--no-install-recommends"].as_slice(), &packages].concat())?;
    }
    let from_pypi: Vec<&str> = missing.iter().filter_map(|tool| tool.pypi_package()).collect();
    if !from_pypi.is_empty() {
        install_from_pypi(&from_pypi)?;
    }
    let still_missing: Vec<Tool> = missing.into_iter().filter(|tool| tool.find().is_none()).collect();
    for tool in &still_missing {
        say(&format!(
            "missing: {} (Debian package {}): its scenarios are skipped",
            tool.name(),
            tool.debian_packages().join(" ")
        ));
    }
    if !still_missing.is_empty() && in_ci() {
        bail!("CI needs every client");
    }
    Ok(())
}

fn install_from_pypi(packages: &[&str]) -> Result<()> {
    let venv = venv()?;
    say(&format!("installing from PyPI: {}", packages.join(" ")));
    if !venv.join("bin/pip").is_file() {
        fs::create_dir_all(&venv).with_context(|| format!("make {}", venv.display()))?;
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).status();
        if !made.is_ok_and(|status| status.success()) {
            say("python3 -m venv failed");
            return Ok(());
        }
    }
    let installed = Command::new(venv.join("bin/pip")).args(["install", "--quiet"]).args(packages).status();
    if !installed.is_ok_and(|status| status.success()) {
        say("pip install failed");
    }
    Ok(())
}

fn build_go_client() -> Result<PathBuf> {
    let folder = tools_folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let client = folder.join("go-client");
    let built = Command::new("go")
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&client)
        .arg(".")
        .current_dir(workspace_folder().join("tests/clients/go"))
        .env("GOFLAGS", "-mod=mod")
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOCACHE", folder.join("go-cache"))
        .output()
        .context("start go build")?;
    if !built.status.success() {
        bail!("go build: {}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(client)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=120"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // The packages would start their services, for sysvinit and systemd respectively.
        .env("RUNLEVEL", "1")
        .env("SYSTEMD_OFFLINE", "1")
        .stdout(io::stderr())
        .status()
        .context("start apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed", arguments.join(" "));
    }
    Ok(())
}

/// Below /usr/lib/TRIPLET, where Debian has libraries of one architecture.
fn multiarch_library(path: &str) -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|folder| folder.path().join(path)).find(|library| library.is_file())
}

fn search_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin"));
    // Ordinary users' PATH lacks the folders of the system's daemons.
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

fn has_stream(nginx: &Path) -> bool {
    let built_in = |options: &str| options.contains("--with-stream ") && !options.contains("--with-stream=dynamic");
    let said = || Command::new(nginx).arg("-V").output();
    Path::new(NGINX_STREAM_MODULE).exists() || said().is_ok_and(|said| built_in(&String::from_utf8_lossy(&said.stderr)))
}

fn python_with(module: &str) -> Option<PathBuf> {
    let python = venv().ok()?.join("bin/python");
    let imports = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    imports.is_ok_and(|done| done.status.success()).then_some(python)
}

fn skip(scenario: &str, why: &str) -> Result<()> {
    if in_ci() {
        bail!("{why}, and CI skips nothing");
    }
    say(&format!("skipped: {scenario}: {why}"));
    Ok(())
}

/// libtest captures what `eprintln!` writes, and a skip that nobody sees reads as a pass; this is not captured.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

fn venv() -> Result<PathBuf> {
    Ok(tools_folder()?.join("venv"))
}

fn tools_folder() -> Result<PathBuf> {
    Ok(target_folder()?.join("test-tools"))
}

static GO_CLIENT: LazyLock<Result<PathBuf>> = LazyLock::new(build_go_client);

/// Debian's libnginx-mod-stream; elsewhere the module may be built in.
pub const NGINX_STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
