//! What a supervisor and its router say to each other, in messages over the socket that is the router's standard input. Its
//! end tells each of them that the other is gone.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ::connection::channel::{Channel, Message};
use serde::{Deserialize, Serialize};

use crate::listening::{Bound, ListeningSockets};

/// What the supervisor wants. Each order but [`Listen`](Self::Listen), [`Admin`](Self::Admin) and [`Keep`](Self::Keep) is
/// answered before the next one is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Sockets of a listener, for the next `Start` or `Commit`. Those of one listener may come in several parts.
    Listen {
        /// The listener.
        name: String,
        /// As it is configured.
        address: SocketAddr,
    },
    /// The socket of the admin endpoint, for the next `Start`.
    Admin,
    /// All sockets are there.
    Start,
    /// The same, but nobody is to be accepted before the order to take over.
    StartAside,
    /// Make everything ready for the configuration that lies beside the published one.
    Prepare,
    /// Serve by it from now on.
    Commit,
    /// Nothing but a count: the configuration file is wrong.
    CountInvalid,
    /// Nothing but a count: the file is right, but what it says cannot be done.
    CountRefused,
    /// Comes with one end of a channel, on which the former router hands over its connections.
    TakeOver,
    /// Comes with the other end: another router takes over, and this one is to go when it has nothing left.
    HandOver,
    /// For the next `HandOver`: the other router has no sockets of this listener, whose connections stay until they have
    /// backends.
    Keep {
        /// The listener.
        name: String,
    },
    /// There is no other router, for this reason.
    NotUpgraded(String),
    /// The file is not what is in force, for this reason, which whoever asks for the status is told.
    NotReloaded(String),
}

/// What the router answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Done.
    Done,
    /// Nothing has changed, for this reason.
    Refused(String),
}

/// One side's end of the socket.
#[derive(Debug)]
pub(crate) struct Line(Channel);

impl Line {
    /// The supervisor's end, and what becomes the standard input of the router. Needs a tokio runtime with I/O.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = Channel::pair()?;
        Ok((Self(Channel::over(ours)?), theirs))
    }

    /// The router's end: the standard input. Fails where that is no such socket, because nobody supervises then.
    pub(crate) fn of_standard_input() -> io::Result<Self> {
        let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), FIRST_FREE)?;
        Ok(Self(Channel::over(socket)?))
    }

    /// The supervisor's end that a former program had.
    pub(crate) fn over(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(Channel::over(socket)?))
    }

    /// The supervisor's side: gives an order.
    pub(crate) async fn give(&self, order: &Order) -> io::Result<()> {
        self.send(order, &[]).await
    }

    /// The supervisor's side: gives the sockets of listeners.
    pub(crate) async fn give_listeners(&self, listeners: &[Bound]) -> io::Result<()> {
        for Bound { name, address, sockets, .. } in listeners {
            let order = Order::Listen { name: name.clone(), address: *address };
            for part in sockets.chunks(::connection::channel::DESCRIPTOR_LIMIT) {
                let descriptors: Vec<_> = part.iter().map(AsFd::as_fd).collect();
                self.send(&order, &descriptors).await?;
            }
        }
        Ok(())
    }

    /// The supervisor's side: gives a new router all sockets and has it start, aside where another one serves by another
    /// configuration until it takes over.
    pub(crate) async fn give_start(&self, sockets: &ListeningSockets, is_aside: bool) -> io::Result<()> {
        self.give_listeners(&sockets.listeners).await?;
        if let Some(admin) = &sockets.admin {
            self.send(&Order::Admin, &[admin.as_fd()]).await?;
        }
        self.give(if is_aside { &Order::StartAside } else { &Order::Start }).await
    }

    /// The supervisor's side: gives an order and what it comes with, and waits for the answer.
    pub(crate) async fn ask_with(&self, order: &Order, descriptor: OwnedFd) -> io::Result<Answer> {
        self.send(order, &[descriptor.as_fd()]).await?;
        self.wait_for_answer().await
    }

    /// The supervisor's side: waits for the answer to the last order. Cancel-safe.
    pub(crate) async fn wait_for_answer(&self) -> io::Result<Answer> {
        let message = self.0.receive().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_slice(&message.payload)?)
    }

    /// The router's side: the next order and what comes with it; `None` once the supervisor is gone. Cancel-safe.
    pub(crate) async fn next_order(&self) -> Option<(Order, Vec<OwnedFd>)> {
        loop {
            let Message { payload, descriptors } = self.0.receive().await.ok().flatten()?;
            match serde_json::from_slice(&payload) {
                Ok(order) => return Some((order, descriptors)),
                Err(error) => tracing::warn!(%error, "the supervisor says what this router does not know"),
            }
        }
    }

    /// The router's side: all sockets, up to the start, which is to be answered, and whether that is aside; `None` once the
    /// supervisor is gone.
    pub(crate) async fn wait_for_start(&self) -> Option<(ListeningSockets, bool)> {
        let mut sockets = ListeningSockets::default();
        loop {
            match self.next_order().await? {
                (Order::Listen { name, address }, descriptors) => sockets.add(name, address, descriptors),
                (Order::Admin, mut descriptors) => sockets.admin = descriptors.pop().map(Into::into),
                (Order::Start, _) => return Some((sockets, false)),
                (Order::StartAside, _) => return Some((sockets, true)),
                (order, _) => tracing::warn!(?order, "an order before the start"),
            }
        }
    }

    /// The router's side: the answer to the last order. A supervisor that is gone is noticed by the next one.
    pub(crate) async fn answer(&self, answer: &Answer) {
        let _ = self.send(answer, &[]).await;
    }

    async fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.send(&serde_json::to_vec(message)?, descriptors).await
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Above standard error, so that the copy never takes the place of a closed standard stream.
const FIRST_FREE: i32 = 3;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn orders_are_answered_and_the_end_is_noticed() {
        let (supervisor, theirs) = Line::pair().unwrap();
        let router = Line(Channel::over(theirs).unwrap());
        let served = tokio::spawn(async move {
            assert_eq!(router.next_order().await.unwrap().0, Order::Prepare);
            router.answer(&Answer::Refused("bind:\nin use".to_owned())).await;
            assert_eq!(router.next_order().await.unwrap().0, Order::Commit);
            router.answer(&Answer::Done).await;
            assert!(router.next_order().await.is_none());
        });
        supervisor.give(&Order::Prepare).await.unwrap();
        assert_eq!(supervisor.wait_for_answer().await.unwrap(), Answer::Refused("bind:\nin use".to_owned()));
        supervisor.give(&Order::Commit).await.unwrap();
        assert_eq!(supervisor.wait_for_answer().await.unwrap(), Answer::Done);
        drop(supervisor);
        served.await.unwrap();
    }

    #[tokio::test]
    async fn more_sockets_than_fit_into_one_message_arrive_in_order() {
        let (supervisor, theirs) = Line::pair().unwrap();
        let router = Line(Channel::over(theirs).unwrap());
        let admin = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let many = (0..300).map(|_| one.try_clone().unwrap()).collect();
        let configured = "127.0.0.1:443".parse().unwrap();
        let bound = Bound { name: "tls".to_owned(), address: configured, sockets: many, fresh: 0 };
        let sockets =
            ListeningSockets { listeners: vec![bound], admin: Some(admin.try_clone().unwrap()), admin_is_fresh: false };
        let (given, started) = tokio::join!(supervisor.give_start(&sockets, true), router.wait_for_start());
        given.unwrap();
        let (started, is_aside) = started.unwrap();
        assert!(is_aside);
        let [tls] = &started.listeners[..] else { panic!("{started:?}") };
        assert_eq!((tls.name.as_str(), tls.address, tls.sockets.len()), ("tls", configured, 300));
        assert_eq!(tls.sockets[299].local_addr().unwrap(), one.local_addr().unwrap());
        assert_eq!(started.admin.unwrap().local_addr().unwrap(), admin.local_addr().unwrap());
    }
}
