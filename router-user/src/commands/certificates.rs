//! The certificates' part of `sni-router check`: each tenant's terminator looks at its own, as the tenant's user. This
//! process opens none of them.

use std::path::Path;
use std::process::Command;

use config::{Config, Mode};

use crate::failure::Failure;
use crate::supervisor::terminator_program;

/// What one tenant's terminator says.
#[derive(Debug)]
pub(super) struct Report {
    /// The tenant.
    pub(super) tenant: String,
    /// For people: the policy, then what was found. As JSON, a document with `policy` and `findings`.
    pub(super) text: String,
    /// Whether connections will fail.
    pub(super) is_problem: bool,
}

/// Asks the terminator of every tenant that has one.
pub(super) fn reports(config: &Config, file: &Path, as_json: bool) -> Result<Vec<Report>, Failure> {
    let terminated = config.tenants.iter().filter(|tenant| matches!(tenant.mode, Mode::Terminate(_)));
    terminated
        .map(|tenant| {
            let program = terminator_program()?;
            let output = Command::new(&program)
                .args(["check", "--tenant", &tenant.name, "--config"])
                .arg(file)
                .args(as_json.then_some("--json"))
                .output()
                .map_err(|error| Failure::System(format!("start {}: {error}", program.display())))?;
            let [found, complaint] =
                [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).trim_end().to_owned());
            // Log lines are for the terminator's operator; what is wrong is on its standard output, unless it could
            // not even begin.
            let text = if found.is_empty() && !output.status.success() { complaint } else { found };
            Ok(Report { tenant: tenant.name.clone(), text, is_problem: !output.status.success() })
        })
        .collect()
}
