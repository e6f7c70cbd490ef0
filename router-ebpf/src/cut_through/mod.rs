//! Cut-through (tc): what arrives from one end of a flow leaves for the other end, translated as if the two ends talked
//! directly. `cut_through` runs where packets arrive, `cut_through_out` where they leave. The contract is in
//! `router_common::cut_through`.
//!
//! A packet of a flow never reaches the local TCP stack unless it is meant for it: there is no socket any more, and the
//! stack would answer with a RST that the end believes.

mod arrive;
mod headers;
mod icmp;
mod leave;
mod odd;
mod options;
mod progress;
mod rewrite;
mod sightings;
mod trace;

use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use router_common::cut_through::{
    EVENT_BYTES, Event, Flow, FlowKey, MAX_FLOWS, MAX_SIGHTINGS, Note, Sighting, Verdict,
};

/// Attached where packets arrive.
#[classifier]
pub(crate) fn cut_through(context: TcContext) -> i32 {
    trace::arrives(context.skb.skb);
    // SAFETY: the kernel passes a valid packet for the duration of the program.
    let action = unsafe { arrive::arrive(context.skb.skb) };
    trace::outcome(context.skb.skb, action);
    action
}

/// Attached where packets leave.
#[classifier]
pub(crate) fn cut_through_out(context: TcContext) -> i32 {
    // SAFETY: as above.
    let action = unsafe { leave::leave(context.skb.skb) };
    trace::leaves(context.skb.skb);
    action
}

// A name here is a constant in router_common::cut_through; a test of the router compares them.
#[map]
static CUT_KEYS: HashMap<FlowKey, u32> = HashMap::with_max_entries(2 * MAX_FLOWS, 0);
#[map]
static CUT_FLOWS: Array<Flow> = Array::with_max_entries(MAX_FLOWS, MAPPABLE);
#[map]
static CUT_NOTES: HashMap<u32, Note> = HashMap::with_max_entries(MAX_FLOWS, NOT_SET_ASIDE);
#[map]
static CUT_SIGHTINGS: LruHashMap<FlowKey, Sighting> = LruHashMap::with_max_entries(MAX_SIGHTINGS, 0);
#[map]
static CUT_DIALS: LruHashMap<FlowKey, u32> = LruHashMap::with_max_entries(MAX_SIGHTINGS, 0);
#[map]
static CUT_EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES, 0);
#[map]
static CUT_VERDICTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Verdict::ALL.len() as u32, 0);

#[inline(always)]
fn count(verdict: Verdict) {
    if let Some(counter) = CUT_VERDICTS.get_ptr_mut(verdict as u32) {
        // SAFETY: the slot is this CPU's own, and packets of one direction do not interrupt each other.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
}

/// Counts a packet that goes nowhere.
#[inline(always)]
fn dropped(verdict: Verdict) -> i32 {
    count(verdict);
    DROP
}

/// Tells the router; when the ring is full the router finds out by itself.
#[inline(always)]
fn report(flow: u32, generation: u32, kind: u32) {
    let _ = CUT_EVENTS.output::<Event>(Event { flow, generation, kind, zero: 0 }, 0);
}

/// TC_ACT_UNSPEC and TCX_NEXT (include/uapi/linux/pkt_cls.h, include/uapi/linux/bpf.h): the next program decides, and
/// after the last one the packet goes on its way.
const PASS: i32 = -1;
/// TC_ACT_SHOT.
const DROP: i32 = 2;
/// BPF_F_MMAPABLE.
const MAPPABLE: u32 = 1 << 10;
/// BPF_F_NO_PREALLOC.
const NOT_SET_ASIDE: u32 = 1;
