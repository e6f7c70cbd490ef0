//! `sni-router schema`.

use std::io::Write;

use crate::failure::Failure;

/// Prints the JSON Schema of the configuration file.
pub fn schema() -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{:#}", config::json_schema()).map_err(|error| Failure::System(error.to_string()))
}
