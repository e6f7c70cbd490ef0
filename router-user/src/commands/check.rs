//! `sni-router check`: the configuration file, and each tenant's TLS policy and certificates as its terminator sees them.
//! Starts nothing that serves.

use std::io::Write;
use std::path::Path;

use config::{Config, LoadError};
use serde_json::{Value, json};

use super::certificates::{Report, reports};
use crate::failure::Failure;

/// Prints each tenant's policy and, when all is right, one line that says so; what is wrong with the file is the failure.
/// With `as_json`, all of it is one JSON document on the standard output.
pub fn check(path: &Path, as_json: bool) -> Result<(), Failure> {
    let loaded = Config::load(path);
    if as_json {
        let problems = loaded.as_ref().err().map(problems).unwrap_or_default();
        let reports = loaded.as_ref().map_or_else(|_| Ok(Vec::new()), |config| reports(config, path, true))?;
        let ok = loaded.is_ok() && !reports.iter().any(|report| report.is_problem);
        let tenants: Vec<Value> = reports.iter().map(tenant).collect();
        let document = json!({ "file": path, "ok": ok, "problems": problems, "tenants": tenants });
        print(&format!("{document:#}"))?;
        return if ok { Ok(()) } else { Err(Failure::Told) };
    }
    let config = loaded.map_err(Failure::Config)?;
    let reports = reports(&config, path, false)?;
    for report in &reports {
        print(&format!("tenant {}:\n  {}", report.tenant, report.text.replace('\n', "\n  ")))?;
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
