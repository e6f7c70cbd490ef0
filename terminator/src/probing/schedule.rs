//! When which backend is looked at: each endpoint of a tenant for itself, at its interval and not in step with others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use connection::backends::Endpoint;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;

use super::Probed;
use super::board::Board;
use super::handshake::Handshaker;

/// Follows one tenant's endpoints, which change with the answers for their names, for ever.
pub(super) async fn keep_probing(
    tenant: Rc<Probed>,
    board: Rc<Board>,
    turns: Rc<Semaphore>,
    handshaker: Rc<Handshaker>,
) {
    let mut changes = tenant.backends.changes();
    let own_turns = Rc::new(Semaphore::new(PROBES_OF_A_TENANT));
    let mut asked: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    loop {
        changes.borrow_and_update();
        let mut before = std::mem::take(&mut asked);
        for endpoint in tenant.backends.endpoints() {
            let task = before.remove(&endpoint.address).unwrap_or_else(|| {
                let (tenant, board) = (Rc::clone(&tenant), Rc::clone(&board));
                let turns = [Rc::clone(&own_turns), Rc::clone(&turns)];
                let handshaker = Rc::clone(&handshaker);
                spawn_local(keep_looking(tenant, endpoint.clone(), board, turns, handshaker)).abort_handle()
            });
            asked.insert(endpoint.address, task);
        }
        before.into_values().for_each(|task| task.abort());
        // What a former prober knew of names waits for their answers.
        if tenant.backends.are_answered() {
            board.keep_only(&tenant.settings.name, |address| asked.contains_key(&address));
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// One endpoint, until the task is aborted.
async fn keep_looking(
    tenant: Rc<Probed>,
    endpoint: Endpoint,
    board: Rc<Board>,
    [own_turns, turns]: [Rc<Semaphore>; 2],
    handshaker: Rc<Handshaker>,
) {
    let name = &tenant.settings.name;
    let age = board.age(name, endpoint.address);
    let mut pause = age.map_or(Duration::ZERO, |age| jittered(tenant.every).saturating_sub(age));
    let mut retry = FIRST_RETRY;
    loop {
        sleep(pause).await;
        let looked = {
            let _own_turn = own_turns.acquire().await;
            let _turn = turns.acquire().await;
            handshaker.look(&tenant.settings, &tenant.header, &endpoint).await
        };
        let is_ok = looked.is_ok();
        board.note(name, endpoint.address, looked);
        pause = jittered(if is_ok { tenant.every } else { retry.min(tenant.every) });
        retry = if is_ok { FIRST_RETRY } else { (2 * retry).min(tenant.every) };
    }
}

/// A little less, differently each time: backends that were asked together at the start are not asked together for ever.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 - JITTER * fastrand::f64())
}

const JITTER: f64 = 0.2;

/// So that those of one tenant that all let us wait leave turns for the others.
const PROBES_OF_A_TENANT: usize = 8;

/// A backend that is just being restarted is back by then; later tries come ever more seldom, down to the interval.
const FIRST_RETRY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_never_longer_than_was_asked_for_and_never_much_shorter() {
        let hour = Duration::from_secs(3600);
        let pauses: Vec<_> = (0..100).map(|_| jittered(hour)).collect();
        assert!(pauses.iter().all(|pause| (hour.mul_f64(0.8)..=hour).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
