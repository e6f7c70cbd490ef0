//! The program of the terminators and of the prober.

use std::path::PathBuf;

use config::{Config, Mode};

use crate::failure::Failure;

/// Where it is; an error where it is missing.
pub(crate) fn program() -> Result<PathBuf, Failure> {
    let terminator = beside_this()?;
    if terminator.exists() {
        Ok(terminator)
    } else {
        Err(Failure::System(format!(
            "{} is missing: it belongs beside sni-router, Terminate tenants and certificateProbe need it",
            terminator.display()
        )))
    }
}

/// The same; that it is missing is no error where no tenant needs it.
pub(super) fn program_for(config: &Config) -> Result<PathBuf, Failure> {
    let is_terminated = config.tenants.iter().any(|tenant| matches!(tenant.mode, Mode::Terminate(_)));
    if is_terminated || config.probed().next().is_some() { program() } else { beside_this() }
}

fn beside_this() -> Result<PathBuf, Failure> {
    let own =
        std::env::current_exe().map_err(|error| Failure::System(format!("find this program's own file: {error}")))?;
    Ok(own.with_file_name(TERMINATOR))
}

/// The binary, in the same folder as this one.
const TERMINATOR: &str = "sni-terminator";
