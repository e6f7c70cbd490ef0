//! What the collector looks at once in a while: flows that do not get past their beginning, silent ones, and what the
//! programs have told in vain.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use router_common::cut_through::{BACKEND, CLIENT, LifeStage};
use tracing::{debug, info};

use super::{ACKNOWLEDGEMENT_UNSEEN, Collector, LINGER, monotonic_ns};
use crate::ebpf::cut_through::ending::reset_both;
use crate::ebpf::cut_through::fallback::Fallback;
use crate::ebpf::cut_through::flow::{NewFlow, Owner};
use crate::ebpf::cut_through::flows::{FlowOutcome, Place};
use crate::ebpf::cut_through::opening::Opening;
use crate::ebpf::cut_through::table::field;

impl Collector {
    /// The programs see a packet before our TCP does. If that has an acknowledgement and they do not, the backend's packets
    /// arrive where they are not, or another program takes them.
    pub(super) fn look_at_opening(&mut self, now: Instant) {
        while let Some(&(due, place, generation)) = self.opening.front()
            && due <= now
        {
            self.opening.pop_front();
            let Some(flow) = self.live.get(&place).filter(|flow| flow.generation == generation) else { continue };
            let Some(opening) = &flow.opening else { continue };
            if opening.backend_has_all() && self.state.table.pending(place) {
                self.state.is_unseen(flow.backend);
                self.take_back(place, Doubt::AcknowledgementUnseen);
            } else {
                self.opening.push_back((now + ACKNOWLEDGEMENT_UNSEEN, place, generation));
            }
        }
    }

    /// Gives the connection back to its task, if nothing of either end has passed the programs yet.
    pub(super) fn take_back(&mut self, place: u32, doubt: Doubt) {
        let Some(mut flow) = self.live.remove(&place) else { return };
        self.state.withdraw([(place, &flow.keys)]);
        let waited = self.barrier.wait();
        let record = self.state.table.read(place);
        let [client, backend] = record.directions;
        let untouched = |opening: &Opening| {
            let unseen = match doubt {
                Doubt::AcknowledgementUnseen => backend.packets == 0,
                // Nothing that a relay would send the client once more.
                Doubt::BackendSpoke => backend.sent == record.expected,
            };
            client.sent == opening.brought() && client.reset | backend.reset == 0 && unseen
        };
        let fate = match (flow.opening.take(), std::mem::replace(&mut flow.owner, Owner::Told)) {
            (Some(opening), Owner::Worker(worker)) if waited.is_ok() && untouched(&opening) => {
                match opening.take_back(doubt.reason()) {
                    Ok(fate) => worker.send((Place { index: place, generation: flow.generation }, fate)).map_err(drop),
                    Err(error) => {
                        debug!(%error, client = %flow.client, "cut-through: take a connection back");
                        Err(())
                    }
                }
            }
            (opening, owner) => {
                flow.opening = opening;
                flow.owner = owner;
                self.live.insert(place, flow);
                return self.abort(place, FlowOutcome::BackendSilent);
            }
        };
        debug!(backend = %flow.backend, ?doubt, taken = fate.is_ok(), "cut-through: relayed after all");
        self.state.give_back_place(place);
        self.state.ports.give_back(flow.backend, flow.port);
    }

    /// Once in a while: flows that are silent, and events that a full ring buffer has lost.
    pub(super) fn sweep(&mut self) {
        let now = monotonic_ns();
        let (mut acknowledged, mut ended, mut aborted) = (Vec::new(), Vec::new(), Vec::new());
        for (place, flow) in &self.live {
            if matches!(flow.owner, Owner::Told) {
                continue;
            }
            let table = &self.state.table;
            if table.stage(*place) == LifeStage::Ending as u16 {
                aborted.push((*place, FlowOutcome::Drained));
            } else if flow.opening.is_some() && !table.pending(*place) {
                acknowledged.push(*place);
            } else if flow.opening.as_ref().is_some_and(|opening| opening.unheard_for() > HELLO_PATIENCE) {
                aborted.push((*place, FlowOutcome::BackendSilent));
            } else if flow.opening.is_none() && table.ended(*place) {
                if !self.doubtful.iter().any(|(_, doubtful)| doubtful == place) {
                    ended.push(*place);
                }
            } else if self.is_idle(*place, flow, now) {
                aborted.push((*place, FlowOutcome::IdleTimeout));
            }
        }
        self.close(&acknowledged);
        for place in ended {
            self.ended(place);
        }
        for (place, outcome) in aborted {
            self.abort(place, outcome);
        }
        self.others.retain_mut(|other| {
            let swept = other.sweep(now, LINGER);
            swept.freed.into_iter().for_each(|(backend, port)| self.state.ports.give_back(backend, port));
            self.adopted_ends.extend(swept.ends);
            swept.is_left
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

    /// `now` is CLOCK_MONOTONIC_COARSE in nanoseconds.
    fn is_idle(&self, place: u32, flow: &NewFlow, now: u64) -> bool {
        let [client, backend] = [CLIENT, BACKEND].map(|which| self.state.table.direction(place, which, field::last));
        let last = client.max(backend);
        let patience = u64::try_from(flow.idle_timeout.as_nanos()).unwrap_or(u64::MAX);
        // Without patience is who lost its sockets with a former process, perhaps before its first packet.
        patience == 0 || last != 0 && now.saturating_sub(last) > patience
    }

    /// Ends a flow: both ends get a RST that they believe.
    pub(super) fn abort(&mut self, place: u32, outcome: FlowOutcome) {
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

/// Why a connection is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The backend's packets arrive where the programs are not.
    AcknowledgementUnseen,
    /// Bytes of the backend have reached our TCP.
    BackendSpoke,
}

impl Doubt {
    fn reason(self) -> Fallback {
        match self {
            Self::AcknowledgementUnseen => Fallback::AcknowledgementUnseen,
            Self::BackendSpoke => Fallback::BackendSpoke,
        }
    }
}

/// A backend that was just connected to and then does not acknowledge.
const HELLO_PATIENCE: Duration = Duration::from_secs(30);
