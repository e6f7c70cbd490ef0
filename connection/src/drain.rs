//! The end of a process in three steps: stop accepting, wait with a deadline, force.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::info;

/// How far the drain has come; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainPhase {
    /// New connections are welcome.
    Running,
    /// No new connections; established ones may end by themselves.
    Draining,
    /// Established connections end now.
    Forced,
}

/// The hand on the lever; whoever holds it decides. Dropping it changes nothing for the signals.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<DrainPhase>,
}

impl Drain {
    /// A drain in phase [`DrainPhase::Running`].
    #[expect(clippy::new_without_default, reason = "a default lever would hide who may pull it")]
    pub fn new() -> Self {
        Self { phase: watch::Sender::new(DrainPhase::Running) }
    }

    /// A signal to watch this drain by, for a task on any thread.
    pub fn signal(&self) -> DrainSignal {
        DrainSignal { phase: self.phase.subscribe() }
    }

    /// Where it is now.
    pub fn phase(&self) -> DrainPhase {
        *self.phase.borrow()
    }

    /// Running becomes Draining.
    pub fn start(&self) {
        self.advance_to(DrainPhase::Draining);
    }

    /// Becomes Forced.
    pub fn force(&self) {
        self.advance_to(DrainPhase::Forced);
    }

    /// Resolves when every signal has been dropped: when each connection's task holds one, nobody is left.
    pub async fn finished(&self) {
        self.phase.closed().await;
    }

    fn advance_to(&self, next: DrainPhase) {
        self.phase.send_if_modified(|phase| {
            let advances = *phase < next;
            *phase = next.max(*phase);
            advances
        });
    }
}

/// What a task watches a drain by. Each connection's task owns one until it ends, because [`Drain::finished`]
/// counts them.
#[derive(Clone, Debug)]
pub struct DrainSignal {
    phase: watch::Receiver<DrainPhase>,
}

impl DrainSignal {
    /// Where the drain is now.
    pub fn phase(&self) -> DrainPhase {
        *self.phase.borrow()
    }

    /// Resolves once new connections are unwelcome.
    pub async fn draining(&self) {
        self.reached(DrainPhase::Draining).await;
    }

    /// Resolves once established connections have to end.
    pub async fn forced(&self) {
        self.reached(DrainPhase::Forced).await;
    }

    /// Resolves `timeout` after draining began, or at once when forced.
    pub async fn forced_after(&self, timeout: Duration) {
        self.draining().await;
        // Both branches are harmless to drop: a timer and a look at a value.
        tokio::select! {
            () = sleep(timeout) => {}
            () = self.forced() => {}
        }
    }

    async fn reached(&self, wanted: DrainPhase) {
        let mut phase = self.phase.clone();
        if phase.wait_for(|phase| *phase >= wanted).await.is_err() {
            // The lever is gone and was not pulled this far, so nobody can pull it any more.
            pending::<()>().await;
        }
    }
}

/// Logs how many connections a drain still waits for: once a second while they become fewer, and once a minute otherwise.
pub async fn tell_progress(connections: impl Fn() -> u64) -> Infallible {
    let (mut told, mut told_at) = (connections(), Instant::now());
    loop {
        sleep(PROGRESS_INTERVAL).await;
        let left = connections();
        if left != told || told_at.elapsed() >= PATIENT_INTERVAL {
            (told, told_at) = (left, Instant::now());
            info!(connections = left, "still draining");
        }
    }
}

/// People watch a log at about this pace.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Connections of a drainTimeout of hours may all be silent for as long.
const PATIENT_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_arrive_in_order_on_another_thread() {
        let drain = Drain::new();
        let signal = drain.signal();
        let (reached, heard) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                signal.draining().await;
                reached.send(signal.phase()).unwrap();
                signal.forced().await;
                reached.send(signal.phase()).unwrap();
            });
        });
        drain.start();
        assert_eq!(heard.recv().unwrap(), DrainPhase::Draining);
        drain.force();
        assert_eq!(heard.recv().unwrap(), DrainPhase::Forced);
        other.join().unwrap();
        drain.finished().await;
    }

    #[tokio::test]
    async fn it_never_goes_back() {
        let drain = Drain::new();
        drain.force();
        drain.start();
        assert_eq!(drain.phase(), DrainPhase::Forced);
        drain.signal().draining().await;
    }

    #[tokio::test]
    async fn forced_after_ends_by_time_or_by_force() {
        let drain = Drain::new();
        drain.start();
        drain.signal().forced_after(Duration::from_millis(1)).await;
        drain.force();
        drain.signal().forced_after(Duration::from_secs(3600)).await;
    }

    #[tokio::test]
    async fn finished_waits_for_the_last_signal() {
        let drain = Drain::new();
        let connection = drain.signal();
        let mut finished = Box::pin(drain.finished());
        assert!(futures_pending(finished.as_mut()).await);
        drop(connection);
        finished.await;
    }

    async fn futures_pending(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        let mut future = Some(future);
        std::future::poll_fn(|context| {
            let pending = future.take().is_some_and(|future| future.poll(context).is_pending());
            std::task::Poll::Ready(pending)
        })
        .await
    }
}
