//! The commands that answer a question and end: check, route, status, schema.

mod certificates;
pub mod check;
pub mod route;
pub mod schema;
pub mod status;

use std::path::Path;

use config::Config;

use crate::failure::Failure;

/// Loads a configuration for a command; what is wrong with it is wrong input.
pub fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(Failure::Config)
}
