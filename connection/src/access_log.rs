//! One JSON line per connection at its end, written by a thread of its own, so that a slow disk or a full pipe
//! costs lines (counted) and never a connection.

mod line;
mod writer;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

pub use line::AccessLine;
use writer::Writer;

/// A handle on the log; clones share one writer. Dropping the last one waits until every accepted line is written.
#[derive(Clone, Debug)]
pub struct AccessLog {
    writer: Arc<Writer>,
}

impl AccessLog {
    /// Opens `path` for appending and creates it where needed; `-` is the standard output.
    pub fn open(path: &Path) -> io::Result<Self> {
        AccessLogFile::open(path)?.start()
    }

    /// Queues one line; when the queue is full the line is dropped and counted.
    pub fn write(&self, line: AccessLine) {
        self.writer.queue(line);
    }

    /// Lines that were lost so far, to a full queue or to a failed write.
    pub fn dropped(&self) -> u64 {
        self.writer.dropped()
    }
}

/// A log that is open and not written yet. Between the two a process can give up the right to open files and to start
/// threads with more rights than it keeps.
#[derive(Debug)]
pub struct AccessLogFile {
    /// `None` is the standard output.
    file: Option<File>,
}

impl AccessLogFile {
    /// Opens `path` for appending and creates it where needed; `-` is the standard output.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new(STDOUT) {
            return Ok(Self { file: None });
        }
        // std opens with O_CLOEXEC.
        let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
        Ok(Self { file: Some(file) })
    }

    /// Starts the writer's thread.
    pub fn start(self) -> io::Result<AccessLog> {
        let writer = match self.file {
            None => Writer::start(io::stdout(), PIPE_BATCH)?,
            Some(file) => Writer::start(file, FILE_BATCH)?,
        };
        Ok(AccessLog { writer: Arc::new(writer) })
    }
}

const STDOUT: &str = "-";
/// Client addresses are personal data: not for everybody.
const FILE_MODE: u32 = 0o640;
/// Router and terminators share one standard output; up to PIPE_BUF bytes a write to a pipe is atomic (pipe(7)).
const PIPE_BATCH: usize = 4096;
/// Appends to a file are atomic at any size on local file systems (open(2), O_APPEND), so this only bounds memory.
const FILE_BATCH: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn line(listener: &'static str) -> AccessLine {
        AccessLine::new(crate::ConnectionId(1), UNIX_EPOCH + Duration::from_millis(1_500), listener)
    }

    #[test]
    fn lines_of_two_handles_are_whole_and_complete_after_the_last_drop() {
        let folder = std::env::temp_dir().join(format!("access-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("access.log");
        let logs = [AccessLog::open(&path).unwrap(), AccessLog::open(&path).unwrap()];
        std::thread::scope(|scope| {
            for log in &logs {
                scope.spawn(move || (0..1_000).for_each(|_| log.write(line("tls"))));
            }
        });
        assert_eq!(logs.iter().map(AccessLog::dropped).sum::<u64>(), 0);
        drop(logs);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2_000);
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["time"], "1970-01-01T00:00:01.500Z");
            assert_eq!(value["listener"], "tls");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_missing_folder_is_an_error_at_start_up() {
        assert!(AccessLog::open(Path::new("/nonexistent/access.log")).is_err());
    }
}
