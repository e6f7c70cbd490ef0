//! The JSON Schema of the configuration file, from the types that read it.

use crate::file::ConfigFile;

/// The JSON Schema (draft 2020-12) of the configuration file.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(ConfigFile).to_value()
}
