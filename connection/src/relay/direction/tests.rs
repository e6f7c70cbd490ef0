//! Directions between fakes of both sides.

use std::collections::VecDeque;

use tokio::net::TcpListener;

use super::*;
use crate::relay::RelayPolicy;

/// Gives for ever and takes everything.
struct Endless {
    reads: usize,
}

impl Side for Endless {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.reads += 1;
        Poll::Ready(Ok(buffer.len()))
    }
    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

#[test]
fn a_turn_ends_though_there_is_more() {
    let context = RelayContext::new(RelayPolicy::Auto);
    let mut direction = Direction::new(&context);
    let (mut source, mut sink) = (Endless { reads: 0 }, Endless { reads: 0 });
    let mut task = Context::from_waker(std::task::Waker::noop());
    let pumped = direction.pump(&mut task, &mut source, &mut sink, &context).unwrap();
    assert_eq!((pumped, source.reads), (Pumped::Yielding, TURN));
}

#[test]
fn a_leftover_is_as_large_as_what_is_left_and_goes_when_it_is_sent() {
    /// Takes this much and blocks.
    struct Narrow(usize);
    impl Side for Narrow {
        fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
        fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let length = bytes.len().min(self.0);
            self.0 -= length;
            if length == 0 { Poll::Pending } else { Poll::Ready(Ok(length)) }
        }
        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn tcp(&self) -> Option<&TcpStream> {
            None
        }
    }
    let context = RelayContext::new(RelayPolicy::Copy);
    let mut direction = Direction::new(&context);
    let (mut source, mut sink) = (Endless { reads: 0 }, Narrow(60_000));
    let mut task = Context::from_waker(std::task::Waker::noop());
    assert_eq!(direction.pump(&mut task, &mut source, &mut sink, &context).unwrap(), Pumped::Waiting);
    let size = crate::relay::context::BUFFER_BYTES;
    assert!(matches!(&direction.undelivered, Undelivered::Leftover { bytes, sent: 0 } if bytes.len() == size - 60_000));
    assert_eq!((source.reads, direction.delivered()), (1, 60_000));
    sink.0 = size - 60_000;
    let mut silent = Narrow(0);
    assert_eq!(direction.pump(&mut task, &mut silent, &mut sink, &context).unwrap(), Pumped::Waiting);
    assert!(matches!(direction.undelivered, Undelivered::Nothing));
    assert_eq!(direction.delivered(), size as u64);
}

/// What a source has, one read after the other, and what a sink was given.
struct Scripted {
    tcp: TcpStream,
    reads: VecDeque<Poll<io::Result<&'static [u8]>>>,
    written: Vec<(Vec<u8>, &'static str)>,
}

impl Scripted {
    async fn new(reads: impl IntoIterator<Item = Poll<io::Result<&'static [u8]>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        Self { tcp, reads: reads.into_iter().collect(), written: Vec::new() }
    }
}

impl Side for Scripted {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.reads.pop_front().unwrap_or(Poll::Pending);
        read.map_ok(|bytes| {
            buffer[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        })
    }
    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.push((bytes.to_vec(), "at once"));
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_write_last(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.push((bytes.to_vec(), "with the end"));
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.written.push((Vec::new(), "end"));
        Poll::Ready(Ok(()))
    }
    fn tcp(&self) -> Option<&TcpStream> {
        Some(&self.tcp)
    }
}

#[tokio::test]
async fn the_last_bytes_wait_for_an_end_that_is_known_and_for_no_other() {
    let context = RelayContext::new(RelayPolicy::Copy);
    let mut task = Context::from_waker(std::task::Waker::noop());
    let mut sink = Scripted::new([]).await;
    let mut answer = Scripted::new([Poll::Ready(Ok(&b"answer"[..])), Poll::Ready(Ok(&[]))]).await;
    let mut direction = Direction::new(&context);
    assert_eq!(direction.pump(&mut task, &mut answer, &mut sink, &context).unwrap(), Pumped::Ended);
    assert_eq!(std::mem::take(&mut sink.written), [(b"answer".to_vec(), "with the end"), (Vec::new(), "end")]);

    let reads = [Poll::Ready(Ok(&b"so "[..])), Poll::Ready(Ok(&b"far"[..])), Poll::Pending, Poll::Ready(Ok(&[]))];
    let mut pausing = Scripted::new(reads).await;
    let mut direction = Direction::new(&context);
    assert_eq!(direction.pump(&mut task, &mut pausing, &mut sink, &context).unwrap(), Pumped::Waiting);
    assert_eq!(std::mem::take(&mut sink.written), [(b"so far".to_vec(), "at once")]);
    assert_eq!(direction.pump(&mut task, &mut pausing, &mut sink, &context).unwrap(), Pumped::Ended);
    assert_eq!(sink.written, [(Vec::new(), "end")]);
}

#[tokio::test]
async fn a_reset_behind_the_last_bytes_is_not_lost_and_they_are_passed_on() {
    let context = RelayContext::new(RelayPolicy::Copy);
    let mut task = Context::from_waker(std::task::Waker::noop());
    let mut sink = Scripted::new([]).await;
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    let mut source = Scripted::new([Poll::Ready(Ok(&b"last"[..])), Poll::Ready(Err(reset()))]).await;
    let failed = Direction::new(&context).pump(&mut task, &mut source, &mut sink, &context);
    assert!(matches!(failed, Err(Failure::Source(error)) if error.kind() == io::ErrorKind::ConnectionReset));
    assert_eq!(sink.written, [(b"last".to_vec(), "at once")]);
}
