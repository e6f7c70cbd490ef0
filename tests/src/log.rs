//! The lines that a started process writes, collected while it runs.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::patience::eventually;

/// All lines so far.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Collects on a thread of its own until the other end is closed.
    pub fn follow(source: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let lines = Arc::clone(&log.0);
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        log
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
