//! One direction of a relay: what it still has to deliver, whether its source has ended, how it moves bytes.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

use super::context::RelayContext;
use super::gear::{Gear, GearBox};
use super::pipe_pool::Pipe;
use super::side::Side;
use super::splice::{Intake, poll_splice_in, poll_splice_out};
use super::suspended::{SuspendedDirection, SuspendedStage};

#[derive(Debug)]
pub(super) struct Direction {
    stage: Stage,
    undelivered: Undelivered,
    gears: GearBox,
    /// Spliced since the source was last waited for.
    burst: usize,
    /// The sink may hold bytes back until it is flushed.
    unflushed: bool,
    taken: u64,
    delivered: u64,
    spliced: bool,
    lacked_pipe: bool,
}

/// What a call of [`Direction::pump`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// The context's waker is registered with whatever has to happen next.
    Waiting,
    /// There is more to do, but it is the others' turn.
    Yielding,
    /// The source has ended, everything is delivered and the sink's write side is shut.
    Ended,
}

/// Which end of a direction failed.
#[derive(Debug)]
pub(super) enum Failure {
    Source(io::Error),
    Sink(io::Error),
}

impl Direction {
    pub(super) fn new(context: &RelayContext) -> Self {
        Self {
            stage: Stage::Flowing,
            undelivered: Undelivered::Nothing,
            gears: GearBox::new(context.policy()),
            burst: 0,
            unflushed: false,
            taken: 0,
            delivered: 0,
            spliced: false,
            lacked_pipe: false,
        }
    }

    /// Goes on where another relay was suspended.
    pub(super) fn resume(context: &RelayContext, suspended: SuspendedDirection) -> Self {
        let SuspendedDirection { stage, delivered, spliced, lacked_pipe, undelivered } = suspended;
        let stage = match stage {
            SuspendedStage::Flowing => Stage::Flowing,
            SuspendedStage::Ending => Stage::Ending,
            SuspendedStage::Ended => Stage::Ended,
        };
        let taken = delivered + undelivered.len() as u64;
        let undelivered = match undelivered.is_empty() {
            true => Undelivered::Nothing,
            false => Undelivered::Leftover { bytes: undelivered.into(), sent: 0 },
        };
        Self { stage, undelivered, taken, delivered, spliced, lacked_pipe, ..Self::new(context) }
    }

    /// All that another relay needs to go on. Between two calls of [`pump`](Self::pump) nothing is under way.
    pub(super) fn suspend(self) -> io::Result<SuspendedDirection> {
        let undelivered = match self.undelivered {
            Undelivered::Nothing => Vec::new(),
            Undelivered::Leftover { bytes, sent } => bytes.get(sent..).unwrap_or_default().to_vec(),
            Undelivered::Piped(pipe) => pipe.into_bytes()?,
        };
        let stage = match self.stage {
            // A source that was cut off is asked again and says so again.
            Stage::Flowing | Stage::CutOff => SuspendedStage::Flowing,
            Stage::Ending => SuspendedStage::Ending,
            Stage::Ended => SuspendedStage::Ended,
        };
        let Self { delivered, spliced, lacked_pipe, .. } = self;
        Ok(SuspendedDirection { stage, delivered, spliced, lacked_pipe, undelivered })
    }

    /// Bytes that the sink has taken.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Changes whenever a byte moves, in or out.
    pub(super) fn activity(&self) -> u64 {
        self.taken.wrapping_add(self.delivered)
    }

    pub(super) fn spliced(&self) -> bool {
        self.spliced
    }

    pub(super) fn lacked_pipe(&self) -> bool {
        self.lacked_pipe
    }

    /// Moves bytes until either end would block or the turn is over.
    pub(super) fn pump(
        &mut self,
        task: &mut Context<'_>,
        source: &mut impl Side,
        sink: &mut impl Side,
        context: &RelayContext,
    ) -> Result<Pumped, Failure> {
        for _ in 0..TURN {
            if self.stage == Stage::Ended {
                return Ok(Pumped::Ended);
            }
            match self.step(task, source, sink, context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failure)) => return Err(failure),
                Poll::Pending => return Ok(Pumped::Waiting),
            }
        }
        Ok(Pumped::Yielding)
    }

    /// Delivers what is undelivered, then takes one load from the source, or passes its end on.
    fn step(
        &mut self,
        task: &mut Context<'_>,
        source: &mut impl Side,
        sink: &mut impl Side,
        context: &RelayContext,
    ) -> Poll<Result<(), Failure>> {
        ready!(self.poll_deliver(task, sink)).map_err(Failure::Sink)?;
        if self.stage == Stage::Ending {
            ready!(sink.poll_shutdown(task)).map_err(Failure::Sink)?;
            self.stage = Stage::Ended;
            return Poll::Ready(Ok(()));
        }
        if self.stage == Stage::CutOff {
            // What came before is the sink's all the same.
            ready!(sink.poll_flush(task)).map_err(Failure::Sink)?;
            return Poll::Ready(Err(Failure::Source(io::ErrorKind::UnexpectedEof.into())));
        }
        let step = match (self.gears.gear(), source.tcp(), sink.tcp()) {
            (Gear::Splice, Some(tcp), Some(_)) => self.poll_splice(task, tcp, sink, context),
            _ => None,
        };
        let step = match step {
            Some(step) => step,
            None => self.poll_copy(task, source, sink, context),
        };
        if step.is_pending() && self.unflushed {
            // The sink's waker is registered: flushing goes on when it can.
            if sink.poll_flush(task).map_err(Failure::Sink)?.is_ready() {
                self.unflushed = false;
            }
        }
        step
    }

    fn poll_deliver(&mut self, task: &mut Context<'_>, sink: &mut impl Side) -> Poll<io::Result<()>> {
        loop {
            let length = match &mut self.undelivered {
                Undelivered::Nothing => return Poll::Ready(Ok(())),
                Undelivered::Leftover { bytes, sent } => {
                    let length = ready!(sink.poll_write(task, bytes.get(*sent..).unwrap_or_default()))?;
                    *sent += length;
                    if *sent >= bytes.len() {
                        self.undelivered = Undelivered::Nothing;
                    }
                    length
                }
                Undelivered::Piped(pipe) => {
                    let Some(tcp) = sink.tcp() else { return Poll::Ready(Err(io::ErrorKind::Unsupported.into())) };
                    let length = ready!(poll_splice_out(pipe, tcp, task))?;
                    if pipe.bytes() == 0 {
                        self.undelivered = Undelivered::Nothing;
                    }
                    length
                }
            };
            self.count_delivered(length)?;
        }
    }

    fn poll_copy(
        &mut self,
        task: &mut Context<'_>,
        source: &mut impl Side,
        sink: &mut impl Side,
        context: &RelayContext,
    ) -> Poll<Result<(), Failure>> {
        let mut buffer = context.buffer();
        let length = match ready!(source.poll_read(task, &mut buffer)) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.stage = Stage::CutOff;
                return Poll::Ready(Ok(()));
            }
            Err(error) => return Poll::Ready(Err(Failure::Source(error))),
        };
        if length == 0 {
            self.stage = Stage::Ending;
            return Poll::Ready(Ok(()));
        }
        self.gears.read(length);
        // An end that is known already costs no further look, and leaves in the packet of the last bytes.
        let next = match (source.tcp(), buffer.get_mut(length..)) {
            (Some(_), Some(room)) if !room.is_empty() => source.poll_read(task, room),
            _ => Poll::Pending,
        };
        match next {
            Poll::Ready(Ok(0)) => {
                self.stage = Stage::Ending;
                self.pass_on(task, sink, buffer.get(..length).unwrap_or_default(), Side::poll_write_last)
            }
            Poll::Ready(Ok(more)) => {
                self.pass_on(task, sink, buffer.get(..length + more).unwrap_or_default(), Side::poll_write)
            }
            Poll::Ready(Err(error)) => {
                // What came before is the sink's all the same, as far as it takes it now.
                let _ = self.pass_on(task, sink, buffer.get(..length).unwrap_or_default(), Side::poll_write)?;
                Poll::Ready(Err(Failure::Source(error)))
            }
            Poll::Pending => self.pass_on(task, sink, buffer.get(..length).unwrap_or_default(), Side::poll_write),
        }
    }

    /// None when this load has to be copied.
    fn poll_splice(
        &mut self,
        task: &mut Context<'_>,
        source: &TcpStream,
        sink: &mut impl Side,
        context: &RelayContext,
    ) -> Option<Poll<Result<(), Failure>>> {
        let mut buffer = context.buffer();
        Some(match poll_splice_in(source, task, context.pipes(), &mut buffer, self.burst == 0) {
            Poll::Ready(Ok(Intake::Piped(pipe))) => {
                self.taken += pipe.bytes() as u64;
                self.burst += pipe.bytes();
                self.spliced = true;
                self.undelivered = Undelivered::Piped(pipe);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(Intake::Buffered(length))) => {
                self.pass_on(task, sink, buffer.get(..length).unwrap_or_default(), Side::poll_write)
            }
            Poll::Ready(Ok(Intake::End)) => {
                self.stage = Stage::Ending;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(Intake::NoPipe)) => {
                self.lacked_pipe = true;
                self.gears.no_pipe();
                return None;
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::Source(error))),
            Poll::Pending => {
                if self.burst > 0 {
                    self.gears.ran_dry(self.burst);
                    self.burst = 0;
                }
                Poll::Pending
            }
        })
    }

    /// Writes what was read into the worker's buffer; what the sink does not take becomes this direction's own.
    fn pass_on<S: Side>(
        &mut self,
        task: &mut Context<'_>,
        sink: &mut S,
        bytes: &[u8],
        poll_write: impl Fn(&mut S, &mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<(), Failure>> {
        self.taken += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            match poll_write(sink, task, rest) {
                Poll::Ready(written) => {
                    let length = written.map_err(Failure::Sink)?;
                    self.count_delivered(length).map_err(Failure::Sink)?;
                    rest = rest.get(length..).unwrap_or_default();
                }
                Poll::Pending => {
                    self.undelivered = Undelivered::Leftover { bytes: rest.into(), sent: 0 };
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn count_delivered(&mut self, length: usize) -> io::Result<()> {
        if length == 0 {
            // A sink that takes nothing and is not blocked would be asked for ever.
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.delivered += length as u64;
        self.unflushed = true;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Flowing,
    /// The source has ended.
    Ending,
    /// The source has ended without the end that its protocol has.
    CutOff,
    Ended,
}

/// What the source gave and the sink has not taken; nothing further is taken while there is any. At most one
/// buffer's or one pipe's content.
#[derive(Debug)]
enum Undelivered {
    Nothing,
    Leftover { bytes: Box<[u8]>, sent: usize },
    Piped(Pipe),
}

/// Loads of up to 64 KiB that a direction moves before other connections have their turn: about a quarter of a
/// millisecond.
const TURN: usize = 16;

#[cfg(test)]
mod tests;
