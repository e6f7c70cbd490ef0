//! From a file or a text to a [`Config`]: parse, decode, resolve. Never keeps half of a wrong file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;

use crate::decode::Decoder;
use crate::error::{ConfigErrors, LoadError};
use crate::field::Field;
use crate::file::ConfigFile;
use crate::model::Config;
use crate::report::{Path as FieldPath, Report};
use crate::resolve;
use crate::yaml::{self, Node};

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref();
        Self::of_file(path, &Self::read_file(path)?)
    }

    /// The text of a configuration file, as it is.
    pub fn read_file(path: &Path) -> Result<String, LoadError> {
        read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })
    }

    /// Checks the text of the file at `path`.
    pub fn of_file(path: &Path, text: &str) -> Result<Self, LoadError> {
        Self::from_yaml(text).map_err(|errors| LoadError::Invalid { path: path.to_owned(), errors })
    }

    /// Checks a configuration text. All that is wrong with it is reported, unless it is not even YAML.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigErrors> {
        // Whatever is wrong is read again as a whole, by the parser that knows positions.
        Self::of_pieces(text).map_or_else(|| Self::of_whole(text), Ok)
    }

    /// The same, and never in pieces.
    pub(crate) fn of_whole(text: &str) -> Result<Self, ConfigErrors> {
        if let Some(config) = yaml::parse_usual(text).and_then(|node| Self::of_tree(&node, Report::default()).ok()) {
            return Ok(config);
        }
        let report = Report::default();
        match yaml::parse(text) {
            Ok(node) => Self::of_tree(&node, report),
            Err((position, message)) => {
                report.error(position, &FieldPath::Root, message);
                report.finish(None)
            }
        }
    }

    fn of_tree(node: &Node<'_>, report: Report) -> Result<Self, ConfigErrors> {
        let config = match Field::<ConfigFile>::deserialize(Decoder::document(node, &report)) {
            Ok(file) => resolve::config(&file, &report),
            Err(error) => {
                report.error(node.position, &FieldPath::Root, error.to_string());
                None
            }
        };
        report.finish(config)
    }
}

/// One byte more than the bound is enough for the parser to refuse it.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let bound = yaml::MAX_TEXT_BYTES as u64 + 1;
    File::open(path)?.take(bound).read_to_string(&mut text)?;
    Ok(text)
}
