//! What a supervisor and its router say to each other, in lines over the socket that is the router's standard input. Its
//! end tells each of them that the other is gone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use ::connection::label_set;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

label_set! {
    /// What the supervisor wants. Each order is answered before the next one is given.
    pub(crate) enum Order {
        /// Make everything ready for the configuration that lies beside the published one.
        Prepare = "prepare",
        /// Serve by it from now on.
        Commit = "commit",
        /// Nothing but a count: the configuration file is wrong.
        CountInvalid = "count-invalid",
        /// Nothing but a count: a running process cannot change what has changed.
        CountRefused = "count-refused",
    }
}

/// What the router answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done.
    Done,
    /// Nothing has changed, for this reason.
    Refused(String),
}

/// One side's end of the socket.
#[derive(Debug)]
pub(crate) struct Line {
    incoming: Lines<BufReader<OwnedReadHalf>>,
    outgoing: OwnedWriteHalf,
}

impl Line {
    /// The supervisor's end, and what becomes the standard input of the router. Needs a tokio runtime with I/O.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        Ok((Self::over(ours)?, theirs.into()))
    }

    /// The router's end: the standard input. Fails where that is no socket, because nobody supervises then.
    pub(crate) fn of_standard_input() -> io::Result<Self> {
        let socket = StdUnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), FIRST_FREE)?);
        // Only a socket has a peer.
        socket.peer_addr()?;
        Self::over(socket)
    }

    fn over(socket: StdUnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (incoming, outgoing) = UnixStream::from_std(socket)?.into_split();
        Ok(Self { incoming: BufReader::new(incoming).lines(), outgoing })
    }

    /// The supervisor's side: gives an order.
    pub(crate) async fn give(&mut self, order: Order) -> io::Result<()> {
        self.send(order.label()).await
    }

    /// The supervisor's side: waits for the answer to the last order. Cancel-safe.
    pub(crate) async fn wait_for_answer(&mut self) -> io::Result<Answer> {
        let answer = self.incoming.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match answer.split_once(' ') {
            Some((REFUSED, why)) => Ok(Answer::Refused(why.to_owned())),
            _ if answer == DONE => Ok(Answer::Done),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer that is none: {answer:?}"))),
        }
    }

    /// The router's side: the next order; `None` once the supervisor is gone. Cancel-safe.
    pub(crate) async fn next_order(&mut self) -> Option<Order> {
        loop {
            let line = self.incoming.next_line().await.ok().flatten()?;
            if let Some(order) = Order::ALL.into_iter().find(|order| order.label() == line) {
                return Some(order);
            }
            tracing::warn!(line, "the supervisor says what this router does not know");
        }
    }

    /// The router's side: the answer to the last order. A supervisor that is gone is noticed by the next one.
    pub(crate) async fn answer(&mut self, answer: &Answer) {
        let text = match answer {
            Answer::Done => DONE.to_owned(),
            Answer::Refused(why) => format!("{REFUSED} {}", why.replace('\n', " ")),
        };
        let _ = self.send(&text).await;
    }

    async fn send(&mut self, line: &str) -> io::Result<()> {
        self.outgoing.write_all(format!("{line}\n").as_bytes()).await
    }
}

const DONE: &str = "done";
const REFUSED: &str = "refused";

/// Above standard error, so that the copy never takes the place of a closed standard stream.
const FIRST_FREE: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn orders_are_answered_and_the_end_is_noticed() {
        let (mut supervisor, theirs) = Line::pair().unwrap();
        let mut router = Line::over(theirs.into()).unwrap();
        let served = tokio::spawn(async move {
            assert_eq!(router.next_order().await, Some(Order::Prepare));
            router.answer(&Answer::Refused("bind:\nin use".to_owned())).await;
            assert_eq!(router.next_order().await, Some(Order::Commit));
            router.answer(&Answer::Done).await;
            assert_eq!(router.next_order().await, None);
        });
        supervisor.give(Order::Prepare).await.unwrap();
        assert_eq!(supervisor.wait_for_answer().await.unwrap(), Answer::Refused("bind: in use".to_owned()));
        supervisor.give(Order::Commit).await.unwrap();
        assert_eq!(supervisor.wait_for_answer().await.unwrap(), Answer::Done);
        drop(supervisor);
        served.await.unwrap();
    }
}
