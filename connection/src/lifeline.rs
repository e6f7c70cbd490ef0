//! Notices that the supervisor is gone: a supervised child's standard input is a pipe on which nothing is ever
//! sent, so its end says that whoever held the other side has died.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Resolves when the supervisor's end of standard input is closed. Never resolves where standard input is no
/// pipe, because then there is no supervisor to lose; a warning says so. Needs a tokio runtime with I/O.
pub async fn supervisor_gone() {
    let ended = match rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), FIRST_FREE) {
        Ok(stdin) => end_of_pipe(stdin).await,
        Err(errno) => Err(errno.into()),
    };
    if let Err(error) = ended {
        tracing::warn!(%error, "standard input is no lifeline: the end of the supervisor will not be noticed");
        std::future::pending::<()>().await;
    }
}

async fn end_of_pipe(read_end: OwnedFd) -> io::Result<()> {
    let mut lifeline = pipe::Receiver::from_owned_fd(read_end)?;
    let mut unexpected = [0; 64];
    while lifeline.read(&mut unexpected).await? != 0 {}
    Ok(())
}

/// Above standard error, so that the copy never takes the place of a closed standard stream.
const FIRST_FREE: i32 = 3;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn the_end_of_the_other_side_is_noticed() {
        let (read_end, mut write_end) = io::pipe().unwrap();
        let ended = tokio::spawn(end_of_pipe(read_end.into()));
        write_end.write_all(b"noise").unwrap();
        tokio::task::yield_now().await;
        assert!(!ended.is_finished());
        drop(write_end);
        ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_no_pipe_is_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(end_of_pipe(null.into()).await.is_err());
    }
}
