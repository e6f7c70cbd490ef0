//! The commands that ask something and end: check, route, status, upgrade, schema.

mod certificates;
pub mod check;
pub mod flows;
pub mod route;
pub mod schema;
pub mod status;
pub mod upgrade;

use std::path::Path;

use config::Config;

use crate::failure::Failure;

/// Loads a configuration for a command; what is wrong with it is wrong input.
pub fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(Failure::Config)
}
