//! The lines that a started process writes, read while it runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::patience::eventually;

/// What a process and its children have written to one file. A file instead of a pipe: what was written is seen at once,
/// without a reader that may be late.
pub struct Log(PathBuf);

impl Log {
    /// An empty log in a folder, and the file that its process is to write to.
    pub fn begin_in(folder: &Path) -> Result<(Self, File)> {
        let made = tempfile::Builder::new().prefix("log-").append(true).tempfile_in(folder);
        let kept = made.and_then(|file| file.keep().map_err(|error| error.error));
        let (file, path) = kept.with_context(|| format!("file for a log in {}", folder.display()))?;
        Ok((Self(path), file))
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read(&self.0);
        assert!(text.is_ok(), "{}: {text:?}", self.0.display());
        String::from_utf8_lossy(&text.unwrap_or_default()).lines().map(str::to_owned).collect()
    }

    /// The lines that hold all of these words.
    pub fn with(&self, words: &[&str]) -> Vec<String> {
        self.lines().into_iter().filter(|line| words.iter().all(|word| line.contains(word))).collect()
    }

    /// Waits for a line that holds all of these words.
    pub fn wait_for(&self, limit: Duration, words: &[&str]) -> Result<String> {
        eventually(limit, &format!("a log line with {words:?}"), || self.with(words).pop())
            .with_context(|| format!("the log:\n{}", self.lines().join("\n")))
    }
}
