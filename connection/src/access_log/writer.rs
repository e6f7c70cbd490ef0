//! The writer thread: takes lines from a bounded queue and writes batches of whole lines.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::AccessLine;

#[derive(Debug)]
pub(super) struct Writer {
    /// None only while dropping: the thread ends when its queue has no sender left.
    queue: Option<SyncSender<Box<AccessLine>>>,
    thread: Option<JoinHandle<()>>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    /// `batch` bytes are what one write(2) carries at most, unless a single line is longer.
    pub(super) fn start(sink: impl Write + Send + 'static, batch: usize) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUED_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let thread = Builder::new().name("access-log".into()).spawn(move || write_lines(sink, &lines, batch, &lost))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), dropped })
    }

    pub(super) fn queue(&self, line: AccessLine) {
        let queued = self.queue.as_ref().is_some_and(|queue| queue.try_send(Box::new(line)).is_ok());
        if !queued {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by its hook already.
            let _ = thread.join();
        }
    }
}

fn write_lines(mut sink: impl Write, lines: &Receiver<Box<AccessLine>>, batch: usize, lost: &AtomicU64) {
    let mut pending = Batch::default();
    let mut failing = false;
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(empty_or_ended) => {
                // Nothing is held back while the queue is empty, so a line is never older than one write.
                pending.write_to(&mut sink, lost, &mut failing);
                if empty_or_ended == TryRecvError::Disconnected {
                    return;
                }
                match lines.recv() {
                    Ok(line) => line,
                    Err(_) => return,
                }
            }
        };
        let before = pending.bytes.len();
        if serde_json::to_writer(&mut pending.bytes, &line).is_err() {
            pending.bytes.truncate(before);
            lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        pending.bytes.push(b'\n');
        if before > 0 && pending.bytes.len() > batch {
            let newest = pending.bytes.split_off(before);
            pending.write_to(&mut sink, lost, &mut failing);
            pending.bytes = newest;
        }
        pending.lines += 1;
    }
}

/// Whole lines that go out in one write.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

impl Batch {
    fn write_to(&mut self, sink: &mut impl Write, lost: &AtomicU64, failing: &mut bool) {
        if self.bytes.is_empty() {
            return;
        }
        match sink.write_all(&self.bytes).and_then(|()| sink.flush()) {
            Ok(()) => *failing = false,
            Err(error) => {
                lost.fetch_add(self.lines, Ordering::Relaxed);
                if !*failing {
                    tracing::warn!(%error, "the access log cannot be written; lines are being lost");
                }
                *failing = true;
            }
        }
        self.bytes.clear();
        self.lines = 0;
    }
}

/// At about 700 bytes a line in memory a full queue is 6 MB: the price of a disk that stalls for a second at
/// 8,000 connections per second.
const QUEUED_LINES: usize = 8_192;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::ConnectionId;

    /// Reports each write and waits for leave to go on.
    struct Stalling {
        writes: Sender<Vec<u8>>,
        leave: Receiver<()>,
    }

    impl Write for Stalling {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes.send(bytes.to_vec()).unwrap();
            let _ = self.leave.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line() -> AccessLine {
        AccessLine::new(ConnectionId(1), UNIX_EPOCH, "tls")
    }

    #[test]
    fn a_stalled_sink_costs_lines_and_counts_them() {
        let (writes, written) = channel();
        let (go_on, leave) = channel();
        let writer = Writer::start(Stalling { writes, leave }, 4096).unwrap();
        writer.queue(line());
        let first = written.recv().unwrap();
        assert_eq!(first.iter().filter(|&&byte| byte == b'\n').count(), 1);
        for _ in 0..QUEUED_LINES + 3 {
            writer.queue(line());
        }
        assert_eq!(writer.dropped(), 3);
        drop(go_on);
        drop(writer);
        let rest: Vec<Vec<u8>> = written.iter().collect();
        assert!(rest.iter().all(|batch| batch.len() <= 4096 && batch.ends_with(b"\n")));
        let lines: usize = rest.iter().flatten().filter(|&&byte| byte == b'\n').count();
        assert_eq!(lines, QUEUED_LINES);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let writer = Writer::start(full, 4096).unwrap();
        let dropped = Arc::clone(&writer.dropped);
        (0..10).for_each(|_| writer.queue(line()));
        drop(writer);
        assert_eq!(dropped.load(Ordering::Relaxed), 10);
    }
}
