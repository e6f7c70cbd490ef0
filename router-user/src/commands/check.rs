//! `sni-router check`: the configuration file, and the certificates as their terminators see them. Starts nothing that
//! serves.

use std::io::Write;
use std::path::Path;

use config::{Config, LoadError};
use serde_json::{Value, json};

use super::certificates::reports;
use crate::failure::Failure;

/// Prints one line when the configuration file is right; what is wrong with it is the failure. With `as_json`, both
/// are one JSON document on the standard output.
pub fn check(path: &Path, as_json: bool) -> Result<(), Failure> {
    let loaded = Config::load(path);
    if as_json {
        let problems = loaded.as_ref().err().map(problems).unwrap_or_default();
        let certificates = loaded.as_ref().map_or_else(|_| Ok(Vec::new()), |config| reports(config, path))?;
        let ok = loaded.is_ok() && !certificates.iter().any(|report| report.is_problem);
        let certificates: Vec<Value> = certificates
            .iter()
            .filter(|report| !report.text.is_empty())
            .map(|report| json!({ "tenant": report.tenant, "problem": report.is_problem, "message": report.text }))
            .collect();
        let document = json!({ "file": path, "ok": ok, "problems": problems, "certificates": certificates });
        print(&format!("{document:#}"))?;
        return if ok { Ok(()) } else { Err(Failure::Told) };
    }
    let config = loaded.map_err(Failure::Config)?;
    let certificates = reports(&config, path)?;
    for report in certificates.iter().filter(|report| !report.text.is_empty()) {
        print(&format!("tenant {}:\n  {}", report.tenant, report.text.replace('\n', "\n  ")))?;
    }
    if certificates.iter().any(|report| report.is_problem) {
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
