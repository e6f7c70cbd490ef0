//! The place of the router: the listening sockets, which outlive its processes, the line to the one that serves, and how
//! another one takes its place while it does.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ::connection::channel::Channel;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::child::Role;
use super::process::Process;
use super::reload::News;
use super::roster::Roster;
use crate::admin::put_socket_in_place;
use crate::listening::ListeningSockets;
use crate::supervision::{Answer, Line, Order};

/// What a router's processes find there. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// To the router that serves, if one does.
    pub(super) line: Arc<Mutex<Option<Line>>>,
    pub(super) sockets: Sockets,
    /// Where the admin socket is.
    runtime_dir: Arc<PathBuf>,
    /// Whether a router has been ready at any time.
    pub(super) served: watch::Sender<bool>,
    ask: UnboundedSender<Upgrade>,
    /// Whoever keeps the router running.
    asked: Arc<Mutex<UnboundedReceiver<Upgrade>>>,
}

/// The listening sockets.
#[derive(Clone, Debug)]
pub(super) struct Sockets(Arc<std::sync::Mutex<ListeningSockets>>);

/// Somebody wants another process in the router's place.
#[derive(Debug)]
pub(super) struct Upgrade {
    seat: Seat,
    news: UnboundedSender<News>,
    done: oneshot::Sender<Replaced>,
    other: Option<Other>,
}

/// What the other process begins with, where that is not what the former one has.
#[derive(Debug)]
struct Other {
    config: PathBuf,
    sockets: ListeningSockets,
    /// Told when it is ready to take over, which it does when it is told to.
    ready: oneshot::Sender<()>,
    go: oneshot::Receiver<()>,
}

/// A router of another configuration that will take over.
#[derive(Debug)]
pub(super) struct Aside {
    go: oneshot::Sender<()>,
    done: oneshot::Receiver<Replaced>,
}

/// The former router is being told to hand over, which the task waits for.
pub(super) type Replaced = Result<JoinHandle<()>, NotReplaced>;

/// Why the router that runs goes on serving.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReplaced {
    #[error("start {}: {source}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("the new router ended before it was ready ({0}); the log has its last words")]
    Ended(ExitStatus),
    #[error("the new router was not ready within {START_PATIENCE:?}")]
    TooSlow,
    #[error("the new router: {0}")]
    Refused(String),
    #[error("the line to the new router: {0}")]
    Line(#[from] io::Error),
    #[error("it is not needed any more")]
    NotWanted,
    #[error("sni-router is stopping")]
    Stopped,
}

impl Seat {
    pub(super) fn new(sockets: ListeningSockets, runtime_dir: &Path) -> Self {
        let (ask, asked) = unbounded_channel();
        let sockets = Sockets(Arc::new(std::sync::Mutex::new(sockets)));
        Self {
            line: Arc::default(),
            sockets,
            runtime_dir: Arc::new(runtime_dir.to_owned()),
            served: watch::Sender::new(false),
            ask,
            asked: Arc::new(Mutex::new(asked)),
        }
    }

    /// Has another process, of the program that is on disk now, take the place of the one that serves.
    pub(super) async fn upgrade(&self, news: &UnboundedSender<News>) -> Replaced {
        let (done, is_done) = oneshot::channel();
        let _ = self.ask.send(Upgrade { seat: self.clone(), news: news.clone(), done, other: None });
        // Who keeps the router running ends with a stop.
        is_done.await.unwrap_or(Err(NotReplaced::Stopped))
    }

    /// Starts another process for the configuration at `config`, with these sockets, and resolves when it is ready to take
    /// over. Dropping the result ends it.
    pub(super) async fn start_aside(
        &self,
        news: &UnboundedSender<News>,
        config: PathBuf,
        sockets: ListeningSockets,
    ) -> Result<Aside, NotReplaced> {
        let (done, is_done) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let (go, may_go) = oneshot::channel();
        let other = Some(Other { config, sockets, ready, go: may_go });
        let _ = self.ask.send(Upgrade { seat: self.clone(), news: news.clone(), done, other });
        match is_ready.await {
            Ok(()) => Ok(Aside { go, done: is_done }),
            Err(_) => match is_done.await {
                Ok(Err(error)) => Err(error),
                _ => Err(NotReplaced::Stopped),
            },
        }
    }

    /// The router that serves from now on is the one to be asked at the admin socket, if it has one.
    fn admin_socket_in_place(&self) {
        if let Err(error) = put_socket_in_place(&self.runtime_dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(%error, "the admin socket stays the former router's");
        }
    }

    /// The next wish for that. Cancel-safe.
    pub(super) async fn next_upgrade(&self) -> Upgrade {
        match self.asked.lock().await.recv().await {
            Some(upgrade) => upgrade,
            // Never: this value holds a sender.
            None => std::future::pending().await,
        }
    }
}

impl Aside {
    /// From now on it serves.
    pub(super) async fn take_over(self) -> Replaced {
        let _ = self.go.send(());
        self.done.await.unwrap_or(Err(NotReplaced::Stopped))
    }
}

impl Sockets {
    /// Looks at them or changes them.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut ListeningSockets) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes all of them: once the router has closed its own, connections are refused.
    pub(super) fn close(&self) {
        self.with(|sockets| *sockets = ListeningSockets::default());
    }
}

impl Upgrade {
    /// Starts another process and, once it serves, has the former one hand over to it; then it is `process`.
    pub(super) async fn replace(
        &mut self,
        program: &Path,
        arguments: &[OsString],
        process: &mut Process,
        roster: &Roster,
    ) -> Replaced {
        let (line, theirs) = Line::pair()?;
        let other = self.other.take();
        let arguments = match &other {
            Some(other) => super::child::router_arguments(&other.config),
            None => arguments.to_vec(),
        };
        // As they are before the reload adopts those of the other one.
        let (sockets, go, kept) = match other {
            Some(Other { sockets, ready, go, .. }) => {
                let kept = self.seat.sockets.with(|own| own.missing_in(&sockets));
                (sockets, Some((ready, go)), kept)
            }
            None => (self.seat.sockets.with(|sockets| sockets.share())?, None, Vec::new()),
        };
        let started = Process::start(program, &arguments, Some(theirs), roster, Role::Router);
        let failed = |source| NotReplaced::Start { program: program.to_owned(), source };
        let mut successor = started.map_err(failed)?;
        info!(process = "router", pid = successor.pid(), "started, to take over");
        // Each branch may be dropped: what is dropped here is not used any more.
        tokio::select! {
            status = successor.wait() => return Err(NotReplaced::Ended(status?)),
            started = timeout(START_PATIENCE, start(sockets, &line, go.is_some())) => match started {
                Ok(Ok(Answer::Done)) => {}
                Ok(Ok(Answer::Refused(why))) => return Err(NotReplaced::Refused(why)),
                // It ends, and its status says more than the end of the line.
                Ok(Err(error)) => return Err(match timeout(LAST_WORDS, successor.wait()).await {
                    Ok(Ok(status)) => NotReplaced::Ended(status),
                    _ => NotReplaced::Line(error),
                }),
                Err(_elapsed) => return Err(NotReplaced::TooSlow),
            }
        }
        if let Some((ready, go)) = go {
            let _ = ready.send(());
            // Each branch may be dropped: a value that is sent once.
            tokio::select! {
                status = successor.wait() => return Err(NotReplaced::Ended(status?)),
                may_go = go => may_go.map_err(|_| NotReplaced::NotWanted)?,
            }
        }
        let (one, other) = Channel::pair()?;
        match timeout(ANSWER_PATIENCE, line.ask_with(&Order::TakeOver, one)).await {
            Ok(Ok(Answer::Done)) => {}
            Ok(Ok(Answer::Refused(why))) => return Err(NotReplaced::Refused(why)),
            Ok(Err(error)) => return Err(error.into()),
            Err(_elapsed) => return Err(NotReplaced::TooSlow),
        }
        // From here on the new one has the place, whatever becomes of the former one.
        self.seat.admin_socket_in_place();
        let former_line = self.seat.line.lock().await.replace(line);
        let former = std::mem::replace(process, successor);
        former.leaves();
        let _ = self.news.send(News::SeeOff(former));
        Ok(tokio::spawn(async move {
            if let Some(line) = former_line {
                let handed_over = async {
                    for name in kept {
                        line.give(&Order::Keep { name }).await?;
                    }
                    line.ask_with(&Order::HandOver, other).await
                };
                match timeout(ANSWER_PATIENCE, handed_over).await {
                    Ok(Ok(Answer::Done)) => {}
                    // The end of its line has it drain.
                    failed => warn!(?failed, "the former router does not hand over its connections"),
                }
            }
        }))
    }

    pub(super) fn answer(self, replaced: Replaced) {
        // Whoever asked may have been stopped.
        let _ = self.done.send(replaced);
    }
}

/// Gives a router that starts its sockets. Orders may be given from the moment on at which it serves.
pub(super) async fn take_seat(seat: Seat, line: Line) {
    *seat.line.lock().await = None;
    let sockets = seat.sockets.with(|sockets| sockets.share());
    let started = async { start(sockets?, &line, false).await };
    match started.await {
        Ok(Answer::Done) => {
            seat.admin_socket_in_place();
            *seat.line.lock().await = Some(line);
            seat.served.send_replace(true);
        }
        Ok(Answer::Refused(why)) => warn!(why, "the router does not start"),
        // It says why itself, if it can, and its end is seen.
        Err(error) => debug!(%error, "the router has not started"),
    }
}

async fn start(sockets: ListeningSockets, line: &Line, is_aside: bool) -> io::Result<Answer> {
    line.give_start(&sockets, is_aside).await?;
    // Ours end here, so that nobody but the router has a listener that a reload takes away.
    drop(sockets);
    line.wait_for_answer().await
}

/// Starting includes reading 100,000 tenants, the verifier's work and the self-test of cut-through.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// An answer takes no work.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Between the end of a router's line and its own.
const LAST_WORDS: Duration = Duration::from_secs(1);
