//! `sni-router check`: the configuration file, and each tenant's TLS policy and certificates as its terminator sees them.
//! Starts nothing that serves.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use config::{Config, LoadError};
use serde_json::{Value, json};

use super::certificates::{Report, reports};
use crate::failure::Failure;
use crate::names::{Looked, look_up_all};

/// Prints each tenant's policy and, when all is right, one line that says so; what is wrong with the file is the failure.
/// With `as_json`, all of it is one JSON document on the standard output.
pub fn check(path: &Path, as_json: bool) -> Result<(), Failure> {
    let loaded = Config::load(path);
    if as_json {
        let problems = loaded.as_ref().err().map(problems).unwrap_or_default();
        let reports = loaded.as_ref().map_or_else(|_| Ok(Vec::new()), |config| reports(config, path, true))?;
        let names: Vec<Value> = match &loaded {
            Ok(config) => look_up(config)?.iter().map(name).collect(),
            Err(_) => Vec::new(),
        };
        let ok = loaded.is_ok() && !reports.iter().any(|report| report.is_problem);
        let tenants: Vec<Value> = reports.iter().map(tenant).collect();
        let document = json!({ "file": path, "ok": ok, "problems": problems, "tenants": tenants, "names": names });
        print(&format!("{document:#}"))?;
        return if ok { Ok(()) } else { Err(Failure::Told) };
    }
    let config = loaded.map_err(Failure::Config)?;
    let reports = reports(&config, path, false)?;
    for report in &reports {
        print(&format!("tenant {}:\n  {}", report.tenant, report.text.replace('\n', "\n  ")))?;
    }
    for looked in look_up(&config)? {
        match &looked.addresses {
            Ok(addresses) => print(&format!("name {}: {}", looked.name, joined(addresses)))?,
            Err(reason) => {
                print(&format!("name {}: warning: {reason}: its backends are down until it has one", looked.name))?;
            }
        }
    }
    if reports.iter().any(|report| report.is_problem) {
        return Err(Failure::Told);
    }
    let hostnames: usize = config.tenants.iter().map(|tenant| tenant.hostnames.len()).sum();
    print(&format!(
        "{}: ok; listeners: {}, tenants: {}, hostnames: {hostnames}",
        path.display(),
        config.listeners.len(),
        config.tenants.len()
    ))
}

/// What the names of backends stand for, seen from here. A name without an address is no problem of the file: the router
/// starts, and asks again.
fn look_up(config: &Config) -> Result<Vec<Looked>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::System(format!("start the runtime: {error}")))?;
    Ok(runtime.block_on(look_up_all(config)))
}

fn name(looked: &Looked) -> Value {
    let addresses = looked.addresses.as_deref().unwrap_or_default();
    json!({ "name": looked.name.to_string(), "addresses": addresses, "warning": looked.addresses.as_ref().err() })
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What its terminator says, or why it could not say it.
fn tenant(report: &Report) -> Value {
    match serde_json::from_str::<Value>(&report.text) {
        Ok(Value::Object(mut said)) => {
            said.insert("tenant".to_owned(), report.tenant.clone().into());
            said.insert("ok".to_owned(), (!report.is_problem).into());
            Value::Object(said)
        }
        _ => json!({
            "tenant": report.tenant,
            "ok": false,
            "policy": [],
            "findings": [{ "severity": "problem", "message": report.text, "command": null }],
        }),
    }
}

fn problems(error: &LoadError) -> Vec<Value> {
    match error {
        LoadError::Read { source, .. } => vec![json!({ "message": format!("read the file: {source}") })],
        LoadError::Invalid { errors, .. } => errors
            .iter()
            .map(|error| {
                json!({
                    "line": error.position.line,
                    "column": error.position.column,
                    "field": error.field,
                    "message": error.message,
                })
            })
            .collect(),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| Failure::System(format!("write the answer: {error}")))
}
