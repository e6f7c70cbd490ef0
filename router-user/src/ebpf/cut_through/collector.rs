//! The thread that accompanies flows after their switch: closes the sockets when the backend has the hello, learns of
//! ends from the ring buffer, tells those who wait for them, and frees places and ports when nothing can follow.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use router_common::cut_through::{BACKEND, CLIENT, ENDED, Flow, FlowKey, HELLO_ACKNOWLEDGED, LifeStage, RESET_EXACT};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, info, warn};

use super::conntrack::Conntrack;
use super::ending::reset_both;
use super::flows::{EndSender, FlowEnd, FlowOutcome, Place};
use super::install::Opening;
use super::layouts::{OtherLayout, Programs};
use super::raw;
use super::record::{Identity, delivered};
use super::shared::State;
use super::table::field;
use super::watch::Watch;

/// A flow that was just switched, or one that a former process left.
#[derive(Debug)]
pub(super) struct NewFlow {
    pub(super) place: u32,
    pub(super) generation: u32,
    pub(super) keys: [FlowKey; 2],
    pub(super) client: SocketAddr,
    /// Our address towards the client.
    pub(super) local: SocketAddr,
    pub(super) backend: SocketAddr,
    /// Our port towards the backend.
    pub(super) port: u16,
    /// `None` when the programs carry it already.
    pub(super) opening: Option<Opening>,
    pub(super) idle_timeout: Duration,
    pub(super) owner: Owner,
}

/// Who hears of a flow's end.
#[derive(Debug)]
pub(super) enum Owner {
    /// The worker that accepted it.
    Worker(EndSender),
    /// Nobody of this process: the flow's record says who it was.
    Adopted,
    /// It has been told.
    Told,
}

/// An adopted flow that has ended.
#[derive(Clone, Copy, Debug)]
pub struct AdoptedEnd {
    /// What the former process wrote down.
    pub identity: Identity,
    /// The client.
    pub client: SocketAddr,
    /// The backend.
    pub backend: SocketAddr,
    /// The end.
    pub end: FlowEnd,
}

/// Who knows what to do with adopted flows.
pub struct Adopted {
    /// Whether a flow may go on; its tenant may be gone from the configuration.
    pub keep: Box<dyn Fn(&Identity) -> bool + Send>,
    /// Called for each adopted flow at its end.
    pub on_end: Box<dyn Fn(AdoptedEnd) + Send>,
}

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
    next_sweep: Instant,
    conntrack: Conntrack,
    others: Vec<OtherLayout>,
    /// Taken off the interfaces when the last flow is over.
    retiring: Option<Programs>,
}

impl Collector {
    pub(super) fn new(
        state: Arc<State>,
        events: RingBuf<MapData>,
        arrivals: Receiver<NewFlow>,
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
            next_sweep: Instant::now() + SWEEP_INTERVAL,
            conntrack: Conntrack::default(),
            others,
            retiring: None,
        }
    }

    /// There will be no new flows.
    pub(super) fn retire(&mut self, programs: Option<Programs>) {
        self.retiring = programs;
    }

    /// Runs until the process leaves, and the kernel carries all of its flows alone. Adopted flows that nobody wants to keep are ended at once.
    pub(super) fn run(mut self, mut watch: Option<Watch>, adopted: &Adopted) {
        self.turn(Duration::ZERO, None);
        let unwanted = |(place, flow): (&u32, &NewFlow)| {
            let unwanted = matches!(flow.owner, Owner::Adopted)
                && flow.opening.is_none()
                && !(adopted.keep)(&identity(&self.state.table.read(*place)));
            unwanted.then_some(*place)
        };
        let unwanted: Vec<_> = self.live.iter().filter_map(unwanted).collect();
        for place in unwanted {
            self.abort(place, FlowOutcome::Drained);
        }
        while !self.has_left() {
            self.adopted_ends.drain(..).for_each(&adopted.on_end);
            self.turn(SWEEP_INTERVAL, watch.as_ref().map(AsFd::as_fd));
            if let Some(watch) = &mut watch {
                watch.look();
            }
        }
    }

    fn has_left(&self) -> bool {
        self.state.leaving.load(Ordering::Relaxed) && self.state.opening.load(Ordering::Relaxed) == 0
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
        let due = due.fold(self.next_sweep, Instant::min);
        let patience = due.saturating_duration_since(now).max(BATCH).min(most);
        let patience =
            Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: i64::from(patience.subsec_nanos()) };
        let events = self.events.as_fd();
        let mut sources: Vec<_> = [Some(&events), other.as_ref()]
            .into_iter()
            .flatten()
            .map(|source| PollFd::new(source, PollFlags::IN))
            .collect();
        if poll(&mut sources, Some(&patience)).is_ok_and(|ready| ready > 0) {
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
        if let Err(error) = raw::wait_for_packets_on_their_way() {
            warn!(%error, "membarrier(2)");
            thread::sleep(Duration::from_millis(50));
        }
        let mut alone = Vec::new();
        for place in places {
            let Some(flow) = self.live.get_mut(place) else { continue };
            let Some(mut opening) = flow.opening.take() else { continue };
            match opening.bring(&self.state, *place) {
                Ok(false) => {
                    opening.vanish();
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
            opening.vanish();
        }
        let [client_to_backend, backend_to_client] = delivered(record);
        let end = FlowEnd { client_to_backend, backend_to_client, outcome };
        match std::mem::replace(&mut flow.owner, Owner::Told) {
            Owner::Worker(worker) => {
                // A worker that is gone has been drained: the line is the next process's.
                let _ = worker.send((Place { index: place, generation: flow.generation }, end));
            }
            Owner::Adopted => self.adopted_ends.push(AdoptedEnd {
                identity: identity(record),
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
            self.state.give_back_place(flow.place);
            self.state.ports.give_back(flow.backend, flow.port);
        }
    }

    /// Once in a while: flows that are silent, and events that a full ring buffer has lost.
    fn sweep(&mut self) {
        let now = monotonic_ns();
        let (mut acknowledged, mut ended, mut aborted) = (Vec::new(), Vec::new(), Vec::new());
        for (place, flow) in &self.live {
            if matches!(flow.owner, Owner::Told) {
                continue;
            }
            let table = &self.state.table;
            let [client, backend] = [CLIENT, BACKEND].map(|which| table.direction(*place, which, field::last));
            if let Some(opening) = &flow.opening {
                if !table.pending(*place) {
                    acknowledged.push(*place);
                } else if opening.age() > HELLO_PATIENCE
                    || opening.age() > ACKNOWLEDGEMENT_UNSEEN && opening.backend_has_all()
                {
                    aborted.push((*place, FlowOutcome::BackendSilent));
                }
            } else if table.ended(*place) {
                if !self.doubtful.iter().any(|(_, doubtful)| doubtful == place) {
                    ended.push(*place);
                }
            } else {
                let last = client.max(backend);
                let patience = u64::try_from(flow.idle_timeout.as_nanos()).unwrap_or(u64::MAX);
                // Without patience is who lost its sockets with a former process, perhaps before its first packet.
                if patience == 0 || last != 0 && now.saturating_sub(last) > patience {
                    aborted.push((*place, FlowOutcome::IdleTimeout));
                }
            }
        }
        self.close(&acknowledged);
        for place in ended {
            self.ended(place);
        }
        for (place, outcome) in aborted {
            self.abort(place, outcome);
        }
        self.others.retain_mut(|other| match other.sweep(now, LINGER) {
            Some(freed) => {
                freed.into_iter().for_each(|(backend, port)| self.state.ports.give_back(backend, port));
                true
            }
            None => false,
        });
        let others = self.others.iter().map(|other| other.ports().len() as u64).sum();
        self.state.others.store(others, Ordering::Relaxed);
        if self.live.is_empty()
            && let Some(programs) = self.retiring.take()
        {
            programs.detach();
            info!("cut-through: the last flow has ended");
        }
    }

    /// Ends a flow: both ends get a RST that they believe.
    fn abort(&mut self, place: u32, outcome: FlowOutcome) {
        let Some(flow) = self.live.get_mut(&place) else { return };
        // First the keys: what the ends still send is answered by the local TCP with a RST of exactly their numbers.
        self.state.withdraw([(place, &flow.keys)]);
        let record = self.state.table.read(place);
        debug!(?outcome, client = %flow.client, backend = %flow.backend, "cut-through: a flow is ended");
        match flow.opening.take() {
            Some(opening) => opening.reset(),
            None => {
                if let Err(error) = reset_both(&self.state, flow, &record) {
                    debug!(%error, client = %flow.client, "cut-through: the ends learn of it when they send");
                }
            }
        }
        self.over(place, &record, outcome);
    }
}

fn identity(record: &Flow) -> Identity {
    Identity { connection: record.connection, accepted_unix_ms: record.accepted_unix_ms, names: record.names }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// The programs note times of CLOCK_MONOTONIC_COARSE, which is at most a tick behind.
fn monotonic_ns() -> u64 {
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
/// A backend that was just connected to and then does not acknowledge.
const HELLO_PATIENCE: Duration = Duration::from_secs(30);
/// Our TCP got the acknowledgement and the program did not: its packets come under other addresses than its SYN did.
const ACKNOWLEDGEMENT_UNSEEN: Duration = Duration::from_secs(3);
