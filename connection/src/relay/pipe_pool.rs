//! The pipes of one worker, bounded in number. A pipe is lent out empty and taken back only when it is empty.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

#[derive(Debug)]
pub(super) struct PipePool {
    idle: RefCell<Vec<Ends>>,
    /// Lent out and idle ones.
    existing: Cell<usize>,
    max: usize,
}

impl PipePool {
    pub(super) fn new(max: usize) -> Self {
        Self { idle: RefCell::default(), existing: Cell::new(0), max }
    }

    /// None when all are lent out, or when the kernel gives no further pipe of full size.
    pub(super) fn lend(self: &Rc<Self>) -> Option<Pipe> {
        let ends = self.idle.borrow_mut().pop().or_else(|| self.make())?;
        Some(Pipe { ends: Some(ends), pool: Rc::clone(self), bytes: 0 })
    }

    /// Pipes that exist, lent out or idle.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.existing.get()
    }

    /// Pipes that are lent out.
    #[cfg(test)]
    pub(super) fn lent(&self) -> usize {
        self.existing.get() - self.idle.borrow().len()
    }

    fn make(&self) -> Option<Ends> {
        if self.existing.get() >= self.max {
            return None;
        }
        match Ends::new() {
            Ok(ends) => {
                self.existing.set(self.existing.get() + 1);
                Some(ends)
            }
            Err(error) => {
                tracing::debug!(%error, "no pipe for splicing");
                None
            }
        }
    }
}

/// A pipe on loan, which goes back to its pool when it is dropped empty and is closed otherwise.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Taken only by drop.
    ends: Option<Ends>,
    pool: Rc<PipePool>,
    bytes: usize,
}

impl Pipe {
    /// What was put in and has not been taken out.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(&mut self, splice: impl FnOnce(&OwnedFd) -> io::Result<usize>) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let length = splice(&ends.write)?;
        self.bytes += length;
        Ok(length)
    }

    /// What is in it.
    pub(super) fn into_bytes(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        let mut read = 0;
        while self.bytes > 0 {
            let rest = bytes.get_mut(read..).unwrap_or_default();
            read += self.take(|pipe| match rustix::io::read(pipe, rest)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                length => Ok(length),
            })?;
        }
        Ok(bytes)
    }

    pub(super) fn take(&mut self, splice: impl FnOnce(&OwnedFd) -> io::Result<usize>) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let length = splice(&ends.read)?;
        self.bytes -= length;
        Ok(length)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        match self.ends.take() {
            Some(ends) if self.bytes == 0 => self.pool.idle.borrow_mut().push(ends),
            _ => self.pool.existing.set(self.pool.existing.get() - 1),
        }
    }
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        if fcntl_getpipe_size(&write)? < PIPE_BYTES {
            // Above pipe-user-pages-soft the kernel hands out pipes of two pages (pipe(7)).
            fcntl_setpipe_size(&write, PIPE_BYTES)?;
        }
        Ok(Self { read, write })
    }
}

pub(super) const PIPE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pipe_comes_back_and_a_full_one_is_closed() {
        let pool = Rc::new(PipePool::new(2));
        drop(pool.lend().unwrap());
        assert_eq!((pool.idle.borrow().len(), pool.existing.get()), (1, 1));
        let mut pipe = pool.lend().unwrap();
        pipe.put(|write| Ok(rustix::io::write(write, b"left behind")?)).unwrap();
        drop(pipe);
        assert_eq!((pool.idle.borrow().len(), pool.existing.get()), (0, 0));
    }

    #[test]
    fn what_is_in_a_pipe_can_be_had_as_bytes() {
        let pool = Rc::new(PipePool::new(1));
        let mut pipe = pool.lend().unwrap();
        pipe.put(|write| Ok(rustix::io::write(write, b"under way")?)).unwrap();
        assert_eq!(pipe.into_bytes().unwrap(), b"under way");
        assert!(pool.lend().unwrap().into_bytes().unwrap().is_empty());
        assert_eq!((pool.idle.borrow().len(), pool.existing.get()), (1, 1));
    }

    #[test]
    fn the_number_is_bounded() {
        let pool = Rc::new(PipePool::new(1));
        let lent = pool.lend().unwrap();
        assert!(pool.lend().is_none());
        drop(lent);
        assert!(pool.lend().is_some());
    }
}
