//! Names and paths that the file gives to its own things.

use std::path::PathBuf;

use crate::hostname::{Hostname, HostnamePattern};
use crate::text::FromText;
use crate::yaml::quoted;

/// The name of a tenant or a listener: a DNS label, because it becomes a folder's name and a metric's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl FromText for Name {
    const NAME: &'static str = "Name";
    const DESCRIPTION: &'static str = "A name of 1 to 63 lower-case letters, digits and hyphens, as a DNS label.";
    const PATTERN: &'static str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
    const EXPECTED: &'static str = "a name in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        let characters = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let ends = !text.starts_with('-') && !text.ends_with('-');
        if characters && ends && (1..=MAX_NAME_BYTES).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "{} is no name: use 1 to {MAX_NAME_BYTES} of a-z, 0-9 and -, with no - at the ends",
                quoted(text)
            ))
        }
    }
}

impl FromText for HostnamePattern {
    const NAME: &'static str = "Hostname";
    const DESCRIPTION: &'static str =
        "A DNS name in ASCII (A-labels), or a wildcard such as *.example.com, which stands for exactly one label.";
    const PATTERN: &'static str = "^(\\*\\.)?[-_A-Za-z0-9]{1,63}(\\.[-_A-Za-z0-9]{1,63})*\\.?$";
    const EXPECTED: &'static str = "a host name in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| format!("{} {error}", quoted(text)))
    }
}

impl FromText for Hostname {
    const NAME: &'static str = "ServerName";
    const DESCRIPTION: &'static str = "A DNS name in ASCII (A-labels).";
    const PATTERN: &'static str = "^[-_A-Za-z0-9]{1,63}(\\.[-_A-Za-z0-9]{1,63})*\\.?$";
    const EXPECTED: &'static str = "a host name in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| format!("{} {error}", quoted(text)))
    }
}

/// A file or folder, as the processes see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePath(pub(crate) PathBuf);

impl FromText for FilePath {
    const NAME: &'static str = "Path";
    const DESCRIPTION: &'static str = "A path in the file system.";
    const PATTERN: &'static str = "^[^\\u0000]+$";
    const EXPECTED: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("is empty: write a path".to_owned())
        } else if text.contains('\0') {
            Err("has a NUL character, which no path can have".to_owned())
        } else {
            Ok(Self(PathBuf::from(text)))
        }
    }
}

/// RFC 1035 section 2.3.4, the length of a label.
const MAX_NAME_BYTES: usize = 63;
