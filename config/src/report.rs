//! Collects the errors of one file while it is read. Never stops at the first.

use std::cell::{Cell, RefCell};
use std::fmt;

use crate::error::{ConfigError, ConfigErrors, Position};

/// The errors of one file so far.
#[derive(Default)]
pub(crate) struct Report {
    errors: RefCell<Vec<ConfigError>>,
    omitted: Cell<usize>,
}

impl Report {
    /// Notes that the field at `path` is wrong.
    pub(crate) fn error(&self, position: Position, path: &Path<'_>, message: impl Into<String>) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < MAX_ERRORS {
            errors.push(ConfigError { position, field: path.to_string(), message: message.into() });
        } else {
            self.omitted.set(self.omitted.get() + 1);
        }
    }

    /// The errors, or `value` when there was none. A value that is missing without an error is a bug of the
    /// resolver; it is reported as such instead of a panic.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        let errors = self.errors.into_inner();
        match value {
            Some(value) if errors.is_empty() => Ok(value),
            _ if errors.is_empty() => Err(ConfigErrors::new(
                vec![ConfigError {
                    position: Position::START,
                    field: String::new(),
                    message: "is invalid (and the reason was lost: please report this)".to_owned(),
                }],
                0,
            )),
            _ => Err(ConfigErrors::new(errors, self.omitted.get())),
        }
    }
}

/// The way from the top of the file to a field, kept on the stack and rendered only for an error.
#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    /// The file itself.
    Root,
    /// A field of a group.
    Field(&'a Path<'a>, &'a str),
    /// An element of a list, from 0.
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// The path of this group's field.
    pub(crate) fn field(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    /// The path of this list's element.
    pub(crate) fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A terminal's worth of errors; the rest is counted only, so that a wrong template of 100,000 tenants stays readable.
const MAX_ERRORS: usize = 100;
