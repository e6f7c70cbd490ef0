//! `sni-router schema`.

use std::io::Write;

use crate::failure::Failure;

/// Prints the JSON Schema of the configuration file, or the same for people.
pub fn schema(as_markdown: bool) -> Result<(), Failure> {
    let text = if as_markdown { config::reference() } else { format!("{:#}\n", config::json_schema()) };
    write!(std::io::stdout(), "{text}").map_err(|error| Failure::System(error.to_string()))
}
