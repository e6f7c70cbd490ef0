//! splice(2) between a connection and a pipe, with the pipe's part of EAGAIN ruled out: bytes go in only while the
//! pipe is empty, so a refusal is always the socket's.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv};
use rustix::pipe::SpliceFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipe_pool::{PIPE_BYTES, Pipe, PipePool};

/// What a source gave.
#[derive(Debug)]
pub(super) enum Intake {
    /// Bytes are in the pipe.
    Piped(Pipe),
    /// The source has something that splice(2) does not take; this many bytes are in the buffer.
    Buffered(usize),
    /// The source has ended.
    End,
    /// The source is readable, but no pipe is to be had.
    NoPipe,
}

/// Fills a pipe from the source. The pipe is borrowed only once the source is readable. `ran_dry` says that nothing was
/// spliced since the source was last waited for.
pub(super) fn poll_splice_in(
    source: &TcpStream,
    context: &mut Context<'_>,
    pipes: &Rc<PipePool>,
    buffer: &mut [u8],
    ran_dry: bool,
) -> Poll<io::Result<Intake>> {
    let mut ask_recv = ran_dry;
    loop {
        ready!(source.poll_read_ready(context))?;
        let Some(mut pipe) = pipes.lend() else { return Poll::Ready(Ok(Intake::NoPipe)) };
        let mut buffered = None;
        let spliced = source.try_io(Interest::READABLE, || {
            let spliced = pipe.put(|write| Ok(rustix::pipe::splice(source, None, write, None, PIPE_BYTES, FLAGS)?));
            match &spliced {
                Ok(1..) => spliced,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => spliced,
                Err(_) if !ask_recv => spliced,
                // tcp_splice_read (net/ipv4/tcp.c) stops in front of urgent data and then reports EAGAIN or, after
                // a FIN, the end; recv(2) tells the truth and passes over the mark.
                _ => {
                    buffered = Some(recv(source, &mut *buffer, RecvFlags::empty())?.1);
                    Ok(0)
                }
            }
        });
        match (spliced, buffered) {
            (Ok(_), Some(0)) => return Poll::Ready(Ok(Intake::End)),
            (Ok(_), Some(length)) => return Poll::Ready(Ok(Intake::Buffered(length))),
            (Ok(_), None) => return Poll::Ready(Ok(Intake::Piped(pipe))),
            (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => ask_recv = true,
            (Err(error), _) => return Poll::Ready(Err(error)),
        }
    }
}

/// Takes bytes out of a pipe that has some and gives their number.
pub(super) fn poll_splice_out(pipe: &mut Pipe, sink: &TcpStream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    loop {
        ready!(sink.poll_write_ready(context))?;
        let length = pipe.bytes();
        let spliced = sink.try_io(Interest::WRITABLE, || {
            pipe.take(|read| Ok(rustix::pipe::splice(read, None, sink, None, length, FLAGS)?))
        });
        match spliced {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return Poll::Ready(other),
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);
