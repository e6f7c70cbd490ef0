//! The thread that accompanies flows after their switch: closes the sockets when the backend has the hello, learns of
//! ends from the ring buffer, tells those who wait for them, and frees places and ports when nothing can follow.

mod sweep;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use router_common::cut_through::{BACKEND, CLIENT, ENDED, Flow, HELLO_ACKNOWLEDGED, LifeStage, RESET_EXACT};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, warn};

use self::sweep::Doubt;
use super::barrier::Barrier;
use super::conntrack::Conntrack;
use super::flow::{FlowNote, NewFlow, Owner};
use super::flows::{Adopted, AdoptedEnd, AdoptedFlow, Fate, FlowEnd, FlowOutcome, Place};
use super::layouts::{OtherLayout, Programs};
use super::notes::Notes;
use super::record::{Identity, delivered};
use super::shared::State;
use super::watch::Watch;

/// The thread's own things.
pub(super) struct Collector {
    state: Arc<State>,
    events: RingBuf<MapData>,
    arrivals: Receiver<NewFlow>,
    /// To be told.
    adopted_ends: Vec<AdoptedEnd>,
    live: HashMap<u32, NewFlow>,
    /// Flows that are over, in the order in which their places become free.
    lingering: VecDeque<(Instant, u32)>,
    /// Flows whose RST may have been meant for nobody, and when to look again.
    doubtful: VecDeque<(Instant, u32)>,
    /// Flows that were opening lately, their generations, and when to look again.
    opening: VecDeque<(Instant, u32, u32)>,
    next_sweep: Instant,
    barrier: Barrier,
    conntrack: Conntrack,
    notes: Notes,
    others: Vec<OtherLayout>,
    /// Taken off the interfaces when the last flow is over.
    retiring: Option<Programs>,
}

impl Collector {
    pub(super) fn new(
        state: Arc<State>,
        events: RingBuf<MapData>,
        arrivals: Receiver<NewFlow>,
        notes: Notes,
        others: Vec<OtherLayout>,
    ) -> Self {
        Self {
            state,
            events,
            arrivals,
            adopted_ends: Vec::new(),
            live: HashMap::new(),
            lingering: VecDeque::new(),
            doubtful: VecDeque::new(),
            opening: VecDeque::new(),
            next_sweep: Instant::now() + SWEEP_INTERVAL,
            barrier: Barrier::new(),
            conntrack: Conntrack::default(),
            notes,
            others,
            retiring: None,
        }
    }

    /// There will be no new flows.
    pub(super) fn retire(&mut self, programs: Option<Programs>) {
        self.retiring = programs;
    }

    /// Runs until the process leaves, and the kernel carries all of its flows alone.
    pub(super) fn run(mut self, mut watch: Option<Watch>, adopted: &Adopted) {
        self.turn(Duration::ZERO, None);
        self.occupy(adopted);
        while !self.has_left() {
            self.adopted_ends.drain(..).for_each(&adopted.on_end);
            self.turn(SWEEP_INTERVAL, watch.as_ref().map(AsFd::as_fd));
            if let Some(watch) = &mut watch {
                watch.look();
            }
        }
        self.leave_notes();
        self.state.leaving.end();
    }

    /// Has adopted flows count as connections again. Those that are not to go on are ended at once.
    fn occupy(&mut self, adopted: &Adopted) {
        let is_adopted = |(_, flow): &(&u32, &NewFlow)| matches!(flow.owner, Owner::Adopted { .. });
        let (places, flows): (Vec<_>, Vec<_>) = self
            .live
            .iter()
            .filter(is_adopted)
            .map(|(place, flow)| {
                let known = self.notes.of(*place, flow.generation);
                let identity = Identity::of(&self.state.table.read(*place));
                (*place, AdoptedFlow { identity, known, client: flow.client, backend: flow.backend })
            })
            .unzip();
        for (place, occupied) in places.into_iter().zip((adopted.occupy)(&flows)) {
            match (occupied, self.live.get_mut(&place)) {
                (Some(occupied), Some(flow)) => flow.owner = Owner::Adopted { _occupied: Some(occupied) },
                _ => self.abort(place, FlowOutcome::Drained),
            }
        }
    }

    /// Of flows whose ends this process has not heard of any more: the next one tells them.
    fn leave_notes(&mut self) {
        for (place, flow) in &mut self.live {
            if flow.opening.is_none()
                && let FlowNote::Here(note) = std::mem::replace(&mut flow.note, FlowNote::None)
            {
                self.notes.keep(*place, flow.generation, note);
            }
        }
    }

    fn has_left(&self) -> bool {
        self.state.leaving.has_begun() && self.state.opening.load(Ordering::SeqCst) == 0
    }

    /// Waits until there is an event, something is due or something can be read from `other`, for this long at most;
    /// then does what there is to do.
    pub(super) fn turn(&mut self, most: Duration, other: Option<BorrowedFd<'_>>) {
        self.wait(most, other);
        let (acknowledged, ended) = self.collect();
        self.close(&acknowledged);
        for place in ended {
            self.ended(place);
        }
        let now = Instant::now();
        self.look_again(now);
        self.look_at_opening(now);
        self.free(now);
        if now >= self.next_sweep {
            self.sweep();
            self.next_sweep = now + SWEEP_INTERVAL;
        }
    }

    /// Events that come close together are taken together.
    fn wait(&self, most: Duration, other: Option<BorrowedFd<'_>>) {
        let now = Instant::now();
        let due = [self.lingering.front(), self.doubtful.front()].into_iter().flatten().map(|(due, _)| *due);
        let due = due.chain(self.opening.front().map(|(due, _, _)| *due));
        let due = due.fold(self.next_sweep, Instant::min);
        let patience = due.saturating_duration_since(now).max(BATCH).min(most);
        let patience =
            Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: i64::from(patience.subsec_nanos()) };
        let (leaving, events) = (self.state.leaving.as_fd(), self.events.as_fd());
        let mut sources: Vec<_> = [Some(&leaving), Some(&events), other.as_ref()]
            .into_iter()
            .flatten()
            .map(|source| PollFd::new(source, PollFlags::IN))
            .collect();
        if poll(&mut sources, Some(&patience)).is_ok_and(|ready| ready > 0) {
            if !sources[0].revents().is_empty() {
                self.state.leaving.has_been_heard();
            }
            thread::sleep(BATCH);
        }
    }

    /// New flows, and the places of which the programs tell.
    fn collect(&mut self) -> (Vec<u32>, Vec<u32>) {
        let (mut acknowledged, mut ended) = (Vec::new(), Vec::new());
        let mut reported = Vec::new();
        while let Some(event) = self.events.next() {
            if let [flow, generation, kind, _] = words(&event)[..] {
                reported.push((flow, generation, kind));
            }
        }
        // After the events, so that every flow that an event can be about is known.
        while let Ok(flow) = self.arrivals.try_recv() {
            // An event may have come and gone before the flow was known.
            let record = self.state.table.read(flow.place);
            if flow.opening.is_some() && record.pending == 0 {
                acknowledged.push(flow.place);
            }
            if record.ended != 0 {
                ended.push(flow.place);
            }
            if flow.opening.is_some() {
                self.opening.push_back((Instant::now() + ACKNOWLEDGEMENT_UNSEEN, flow.place, flow.generation));
            }
            if matches!(flow.owner, Owner::Told) {
                self.lingering.push_back((Instant::now() + LINGER, flow.place));
            }
            self.live.insert(flow.place, flow);
        }
        for (place, generation, kind) in reported {
            if self.live.get(&place).is_some_and(|flow| flow.generation == generation) {
                match kind {
                    HELLO_ACKNOWLEDGED => acknowledged.push(place),
                    ENDED => ended.push(place),
                    _ => {}
                }
            }
        }
        (acknowledged, ended)
    }

    /// Closes the sockets of flows whose hello the backend has. A packet that had passed the program on another CPU
    /// before the keys were there may have brought more bytes since: they follow, and the flow stays open a while.
    fn close(&mut self, places: &[u32]) {
        if places.is_empty() {
            return;
        }
        wait_for_packets(&mut self.barrier);
        let (mut alone, mut heard) = (Vec::new(), Vec::new());
        for place in places {
            let Some(flow) = self.live.get_mut(place) else { continue };
            // A place is here twice when its event and its arrival came together, and more bytes may have been brought since.
            if self.state.table.pending(*place) {
                continue;
            }
            let Some(mut opening) = flow.opening.take() else { continue };
            if opening.backend_spoke() {
                flow.opening = Some(opening);
                heard.push(*place);
                continue;
            }
            match opening.bring(&self.state, *place) {
                Ok(false) => {
                    opening.vanish();
                    // First, so that nobody adopts a flow without a name. One that has ended is told by this process, as long as
                    // it does not leave.
                    if !self.state.table.ended(*place)
                        && let FlowNote::Here(note) = std::mem::replace(&mut flow.note, FlowNote::None)
                    {
                        self.notes.keep(*place, flow.generation, note);
                        flow.note = FlowNote::Kept;
                    }
                    self.state.table.set_stage(*place, LifeStage::Carried as u16);
                    alone.extend(flow.connections());
                }
                Ok(true) => flow.opening = Some(opening),
                Err(error) => {
                    debug!(%error, "cut-through: bytes behind the hello");
                    flow.opening = Some(opening);
                    self.abort(*place, FlowOutcome::BackendSilent);
                }
            }
        }
        self.conntrack.forget(&alone);
        for place in heard {
            self.take_back(place, Doubt::BackendSpoke);
        }
    }

    /// The programs have seen the end of a flow.
    fn ended(&mut self, place: u32) {
        let record = self.state.table.read(place);
        let Some(flow) = self.live.get_mut(&place) else { return };
        if matches!(flow.owner, Owner::Told) {
            return;
        }
        let [client, backend] = &record.directions;
        let outcome = if client.fin_acknowledged & backend.fin_acknowledged != 0 {
            FlowOutcome::Ok
        } else if client.reset == RESET_EXACT {
            FlowOutcome::ClientReset
        } else if backend.reset == RESET_EXACT {
            FlowOutcome::BackendReset
        } else {
            self.doubtful.push_back((Instant::now() + DOUBT, place));
            return;
        };
        self.over(place, &record, outcome);
    }

    /// An end that got a RST that was not meant for it has answered by now.
    fn look_again(&mut self, now: Instant) {
        while let Some(&(due, place)) = self.doubtful.front()
            && due <= now
        {
            self.doubtful.pop_front();
            let record = self.state.table.read(place);
            let outcome = match (record.directions[CLIENT].reset, record.directions[BACKEND].reset) {
                (0, 0) => {
                    self.state.table.clear_ended(place);
                    continue;
                }
                (0, _) => FlowOutcome::BackendReset,
                (_, _) => FlowOutcome::ClientReset,
            };
            self.over(place, &record, outcome);
        }
    }

    /// Tells of the end. The keys stay a while: what is sent again must not reach the local TCP.
    fn over(&mut self, place: u32, record: &Flow, outcome: FlowOutcome) {
        let Some(flow) = self.live.get_mut(&place) else { return };
        if let Some(opening) = flow.opening.take() {
            // The packet that ended it may be on its way to the backend's socket, as the last acknowledgement of a FIN
            // that our TCP had sent.
            wait_for_packets(&mut self.barrier);
            opening.vanish();
        }
        if matches!(flow.note, FlowNote::Here(_)) {
            flow.note = FlowNote::None;
        }
        let [client_to_backend, backend_to_client] = delivered(record);
        let end = FlowEnd { client_to_backend, backend_to_client, outcome };
        match std::mem::replace(&mut flow.owner, Owner::Told) {
            Owner::Worker(worker) => {
                // A worker that is gone has been drained: the line is the next process's.
                let place = Place { index: place, generation: flow.generation };
                let _ = worker.send((place, Fate::Ended(end)));
            }
            Owner::Adopted { .. } => self.adopted_ends.push(AdoptedEnd {
                identity: Identity::of(record),
                known: self.notes.of(place, flow.generation),
                client: flow.client,
                backend: flow.backend,
                end,
            }),
            Owner::Told => return,
        }
        self.state.table.set_stage(place, LifeStage::Told as u16);
        self.lingering.push_back((Instant::now() + LINGER, place));
    }

    /// As many at a time as are due, so that their keys go with one call.
    fn free(&mut self, now: Instant) {
        let due = self.lingering.iter().take_while(|(due, _)| *due <= now).count();
        if due == 0 {
            return;
        }
        let places = self.lingering.drain(..due).map(|(_, place)| place);
        let flows: Vec<_> = places.filter_map(|place| self.live.remove(&place)).collect();
        self.state.withdraw(flows.iter().map(|flow| (flow.place, &flow.keys)));
        for flow in flows {
            if matches!(flow.note, FlowNote::Kept) {
                self.notes.forget(flow.place);
            }
            self.state.give_back_place(flow.place);
            self.state.ports.give_back(flow.backend, flow.port);
        }
    }
}

/// Until those that the programs have let pass have reached their sockets.
fn wait_for_packets(barrier: &mut Barrier) {
    if let Err(error) = barrier.wait() {
        warn!(%error, "membarrier(2)");
        thread::sleep(Duration::from_millis(50));
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// The programs note times of CLOCK_MONOTONIC_COARSE, which is at most a tick behind.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// Events of this time are handled together: a wake-up for each would cost short connections more than the work.
const BATCH: Duration = Duration::from_millis(2);
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long packets of a flow that is over may come again: several retransmission time-outs of ordinary paths, and
/// short enough that thousands of connections per second do not use up the ports.
const LINGER: Duration = Duration::from_secs(2);
/// A challenge (RFC 5961) arrives within a round trip.
const DOUBT: Duration = Duration::from_secs(1);
/// After that a flow that is opening still is looked at, again and again.
const ACKNOWLEDGEMENT_UNSEEN: Duration = Duration::from_millis(200);
