//! The channel of one router process, or of one of its workers: checks who it is, takes its connections, answers its
//! questions. Outlives the router for as long as a connection of it is open.

use std::rc::Rc;
use std::time::Duration;

use config::BackendName;
use connection::SourceSocket;
use connection::handoff::{HandoffError, HandoffReceiver, Received, ResolvedName};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use super::path;
use super::worker::Worker;
use crate::outcome::Outcome;

/// Serves one router until it is gone, or the drain has begun and all that was queued is taken; then until its last
/// connection has ended.
pub(super) async fn serve(worker: Rc<Worker>, router: HandoffReceiver) {
    if !is_the_router(&worker, &router) {
        return;
    }
    debug!("a router connected");
    let mut connections = JoinSet::new();
    let mut stopped = false;
    let mut short_of_descriptors = false;
    loop {
        // Each branch is cancel-safe: receiving says so, the others look at a set and at a value.
        tokio::select! {
            received = router.recv() => match received {
                Ok(Some(Received::Connection(handoff, client, source))) => {
                    short_of_descriptors = false;
                    let source = source.map(|socket| SourceSocket::new(socket, handoff.client.ip()));
                    connections.spawn_local(path::serve(Rc::clone(&worker), handoff, client, source));
                }
                Ok(Some(Received::Addresses(resolved))) => learn(&worker, &resolved),
                Ok(Some(Received::StatusRequest)) => answer_status(&worker, &router).await,
                // Not a question for a terminator.
                Ok(Some(Received::ProbedRequest(_))) => {}
                Ok(None) => break,
                Err(HandoffError::DescriptorsLost) => {
                    worker.counters().connection_ended(Outcome::NoDescriptors);
                    if !std::mem::replace(&mut short_of_descriptors, true) {
                        warn!("hand-offs are lost: out of file descriptors");
                    }
                    // What is not received yet is not lost: the router waits, and tells its clients if it is too long.
                    sleep(SHORTAGE_PAUSE).await;
                }
                Err(error) if error.is_about_one_message() => {
                    worker.counters().connection_ended(Outcome::HandoffLost);
                    warn!(%error, "a hand-off was lost");
                }
                Err(error) => {
                    warn!(%error, "the channel of a router failed");
                    break;
                }
            },
            Some(ended) = connections.join_next() => count_panic(&worker, ended.err()),
            () = worker.drain.draining(), if !stopped => {
                router.stop();
                stopped = true;
            }
        }
    }
    debug!(connections = connections.len(), "a router's channel ended");
    // Its end of the channel goes now: the router sees that nothing more is taken.
    drop(router);
    while let Some(ended) = connections.join_next().await {
        count_panic(&worker, ended.err());
    }
}

/// SO_PEERCRED is the kernel's word, from the moment of connect(2). A process that only knows the path is refused.
fn is_the_router(worker: &Worker, router: &HandoffReceiver) -> bool {
    let expected = worker.shared.tenant.router_uid;
    match router.peer_uid() {
        Ok(uid) if uid == expected => true,
        Ok(uid) => {
            warn!(target: "audit", uid, expected, "refused a hand-off channel: its peer is not the router");
            false
        }
        Err(error) => {
            warn!(%error, "refused a hand-off channel: its peer cannot be told");
            false
        }
    }
}

/// Only names that the tenant's own configuration has lead anywhere, and only to the ports that it has.
fn learn(worker: &Worker, resolved: &ResolvedName) {
    match BackendName::parse(&resolved.name) {
        Some(name) => worker.shared.tenant.backends.resolve(&name, &resolved.addresses),
        None => warn!(name = resolved.name, "the router tells of what is no name"),
    }
}

async fn answer_status(worker: &Worker, router: &HandoffReceiver) {
    let status = worker.shared.status();
    match timeout(STATUS_LIMIT, router.send_status(&status)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "the status was not sent"),
        Err(_elapsed) => debug!("the router does not take the status that it asked for"),
    }
}

fn count_panic(worker: &Worker, failure: Option<JoinError>) {
    if let Some(error) = failure.filter(JoinError::is_panic) {
        worker.counters().connection_ended(Outcome::Panicked);
        error!(%error, "the task of a connection panicked");
    }
}

/// Descriptors come back when connections end; receiving more often would only lose more.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// Meanwhile no hand-off of this router is received, and their deadlines are seconds.
const STATUS_LIMIT: Duration = Duration::from_millis(500);
