//! `sni-router check`: the configuration file, without starting anything.

use std::io::Write;
use std::path::Path;

use config::{Config, LoadError};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Prints one line when the configuration file is right; what is wrong with it is the failure. With `as_json`, both
/// are one JSON document on the standard output.
pub fn check(path: &Path, as_json: bool) -> Result<(), Failure> {
    let loaded = Config::load(path);
    if as_json {
        let problems = loaded.as_ref().err().map(problems).unwrap_or_default();
        print(&format!("{:#}", json!({ "file": path, "ok": loaded.is_ok(), "problems": problems })))?;
        return loaded.map(drop).map_err(|_| Failure::Told);
    }
    let config = loaded.map_err(Failure::Config)?;
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
