//! `cargo xtask edges`: which crate may depend on which. The tables here are the rule; ARCHITECTURE.md explains it.

use anyhow::{Result, bail};

use crate::cargo::{cargo, output, workspace};

/// Dependencies between crates of this workspace, of every kind (normal, build, dev).
const INTERNAL: &[(&str, &[&str])] = &[
    ("bench", &["client-hello", "config", "connection", "router-user", "tests"]),
    ("client-hello", &[]),
    ("config", &[]),
    ("connection", &["config"]),
    ("router-common", &[]),
    ("router-user", &["client-hello", "config", "connection", "router-common"]),
    ("terminator", &["config", "connection"]),
    ("tests", &["config"]),
    ("xtask", &[]),
];

/// Crates from outside that only some of ours may link, however indirectly: the process that parses hostile bytes has
/// no TLS library that could use a key, and the processes that hold keys load no eBPF.
const RESERVED: &[(&[&str], &[&str])] = &[
    (
        &["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl", "openssl-sys", "ring", "rustls", "tokio-rustls"],
        &["bench", "terminator", "tests"],
    ),
    (&["aya", "aya-obj"], &["router-user", "bench"]),
];

pub(crate) fn edges() -> Result<()> {
    let mut wrong = Vec::new();
    for member in members()? {
        let Some((_, allowed)) = INTERNAL.iter().find(|(name, _)| *name == member) else {
            wrong.push(format!("{member} is in no table: say in xtask/src/edges.rs what it may depend on"));
            continue;
        };
        for dependency in direct_internal(&member)? {
            if !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{member} depends on {dependency}"));
            }
        }
        let linked = linked(&member)?;
        for (crates, users) in RESERVED.iter().filter(|(_, users)| !users.contains(&member.as_str())) {
            for found in linked.iter().filter(|name| crates.contains(&name.as_str())) {
                wrong.push(format!(
                    "{member} links {found}, which only {} may: cargo tree -p {member} -i {found}",
                    users.join(", ")
                ));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("crate edges that are not allowed:\n  {}", wrong.join("\n  "));
    }
    println!("crate edges: as allowed");
    Ok(())
}

fn members() -> Result<Vec<String>> {
    tree(&["--workspace", "--depth", "0"]).map(|lines| lines.iter().map(|line| name(line)).collect())
}

fn direct_internal(member: &str) -> Result<Vec<String>> {
    // Packages from a registry stand without a path; ours carry theirs.
    let lines = tree(&["--package", member, "--edges", "normal,build,dev", "--depth", "1"])?;
    Ok(lines.iter().skip(1).filter(|line| line.contains("(/")).map(|line| name(line)).collect())
}

fn linked(member: &str) -> Result<Vec<String>> {
    let lines = tree(&["--package", member, "--edges", "normal,build"])?;
    Ok(lines.iter().map(|line| name(line)).collect())
}

/// The lines of `cargo tree`, such as `config v0.1.0 (/src/config)` or `serde v1.0.0 (*)`.
fn tree(arguments: &[&str]) -> Result<Vec<String>> {
    let mut tree = cargo();
    tree.args(["tree", "--quiet", "--locked", "--prefix", "none"]).args(arguments).current_dir(workspace());
    Ok(output(&mut tree)?.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn name(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}
