//! What is wrong with a configuration file, and where. Never decides what is right.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Everything that is wrong with one configuration text, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    omitted: usize,
}

impl ConfigErrors {
    /// `errors` is not empty; `omitted` counts those that were found but not kept.
    pub(crate) fn new(mut errors: Vec<ConfigError>, omitted: usize) -> Self {
        errors.sort_by_key(|error| error.position);
        Self { errors, omitted }
    }

    /// The errors in the order of the file; at least one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    /// How many errors were found beyond those that [`iter`](Self::iter) gives.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    fn render(&self, f: &mut fmt::Formatter<'_>, prefix: &str) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{prefix}{error}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n{prefix} {} more errors", self.omitted)?;
        }
        Ok(())
    }
}

/// One line for each error: `LINE:COLUMN: field: message`.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.render(f, "")
    }
}

impl std::error::Error for ConfigErrors {}

/// One thing that is wrong in a configuration text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it stands.
    pub position: Position,
    /// The field's path, such as `tenants[1].backends[0].address`; empty for the file as a whole.
    pub field: String,
    /// What is wrong and what would be right, in one line.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.position)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// A place in a text; both numbers count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Position {
    /// The first character of the text.
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a configuration file gave no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file could not be read.
    Read {
        /// The file as it was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was read and is wrong.
    Invalid {
        /// The file as it was named.
        path: PathBuf,
        /// All that is wrong with it.
        errors: ConfigErrors,
    },
}

/// One line for each error: `FILE:LINE:COLUMN: field: message`.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "read {}: {source}", path.display()),
            Self::Invalid { path, errors } => errors.render(f, &format!("{}:", path.display())),
        }
    }
}

/// The system's own error is part of [`Display`](fmt::Display), so that there is no source to print after it.
impl std::error::Error for LoadError {}
