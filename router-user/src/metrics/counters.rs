//! What one worker counts. Only that worker writes, so relaxed atomics never contend.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use config::{Mode, Tenant};
use connection::handoff::HandoffWaits;
use connection::relay::{DataPath, Traffic};

use super::Histogram;
use crate::ebpf::cut_through::Fallback;
use crate::router::outcome::{ConnectionOutcome, HelloOutcome, Shortage};

/// All counters of one worker but those of tenants, which reloads add and remove.
#[derive(Debug)]
pub struct WorkerCounters {
    hellos: [AtomicU64; HelloOutcome::ALL.len()],
    /// Connections that ended without a tenant.
    rejected: [AtomicU64; ConnectionOutcome::ALL.len()],
    data_paths: [AtomicU64; DATA_PATHS.len()],
    /// Bulk directions that stayed with copying because no pipe was to be had.
    pub fallback_no_pipe: AtomicU64,
    /// Connections that the kernel was given to carry.
    pub cut_through: AtomicU64,
    fallbacks: [AtomicU64; Fallback::ALL.len()],
    shortages: [AtomicU64; Shortage::ALL.len()],
    /// Connections that count for no source, because its places in the table are taken.
    pub sources_not_counted: AtomicU64,
    /// Bytes of whole hellos on the wire.
    pub hello_bytes: Histogram,
    /// Seconds from accept to the whole hello.
    pub hello_seconds: Histogram,
}

/// What one worker counts for one tenant.
#[derive(Debug)]
pub struct TenantCounters {
    outcomes: [AtomicU64; ConnectionOutcome::ALL.len()],
    active: AtomicU64,
    /// Bytes of relayed connections, as they move.
    pub traffic: Traffic,
    /// Seconds from the decision until the terminator's socket took the connection; only for Terminate.
    pub handoff_seconds: Option<Box<Histogram>>,
    /// What hand-offs waited for.
    pub handoff_waits: Arc<HandoffWaits>,
}

/// One live connection of a tenant, counted for as long as the guard lives.
#[derive(Debug)]
pub struct Active(Arc<TenantCounters>);

impl WorkerCounters {
    /// Zeroes.
    #[expect(clippy::new_without_default, reason = "counters are made once per worker, and a default would hide where")]
    pub fn new() -> Self {
        Self {
            hellos: zeroes(),
            rejected: zeroes(),
            data_paths: zeroes(),
            fallback_no_pipe: AtomicU64::new(0),
            cut_through: AtomicU64::new(0),
            fallbacks: zeroes(),
            shortages: zeroes(),
            sources_not_counted: AtomicU64::new(0),
            hello_bytes: Histogram::new(HELLO_BYTES_BOUNDS),
            hello_seconds: Histogram::new(SECONDS_BOUNDS),
        }
    }

    /// Counts the end of a peek step.
    pub fn hello(&self, outcome: HelloOutcome) {
        self.hellos[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that ends without a tenant.
    pub fn rejected(&self, outcome: ConnectionOutcome) {
        self.rejected[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an accept(2) that failed.
    pub fn accept_failed(&self, shortage: Shortage) {
        self.shortages[shortage as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a relayed connection by the path that its bytes took.
    pub fn data_path(&self, path: DataPath) {
        self.data_paths[data_path_index(path)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that is relayed although cut-through is configured.
    pub fn fallback(&self, reason: Fallback) {
        self.fallbacks[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that were relayed for this reason.
    pub fn fallbacks(&self, reason: Fallback) -> u64 {
        self.fallbacks[reason as usize].load(Ordering::Relaxed)
    }

    /// Peek steps that ended so.
    pub fn hellos(&self, outcome: HelloOutcome) -> u64 {
        self.hellos[outcome as usize].load(Ordering::Relaxed)
    }

    /// Connections without a tenant that ended so.
    pub fn rejections(&self, outcome: ConnectionOutcome) -> u64 {
        self.rejected[outcome as usize].load(Ordering::Relaxed)
    }

    /// accept(2) calls that failed so.
    pub fn failed_accepts(&self, shortage: Shortage) -> u64 {
        self.shortages[shortage as usize].load(Ordering::Relaxed)
    }

    /// Relayed connections that took this path.
    pub fn data_path_total(&self, path: DataPath) -> u64 {
        self.data_paths[data_path_index(path)].load(Ordering::Relaxed)
    }
}

impl TenantCounters {
    /// Zeroes.
    pub fn new(tenant: &Tenant) -> Self {
        let is_handed_over = matches!(tenant.mode, Mode::Terminate(_));
        Self {
            outcomes: zeroes(),
            active: AtomicU64::new(0),
            traffic: Traffic::default(),
            handoff_seconds: is_handed_over.then(|| Box::new(Histogram::new(SECONDS_BOUNDS))),
            handoff_waits: Arc::default(),
        }
    }

    /// Zeroes that nobody reads: for connections of a tenant that the configuration does not have any more.
    pub fn of_nobody() -> Self {
        Self {
            outcomes: zeroes(),
            active: AtomicU64::new(0),
            traffic: Traffic::default(),
            handoff_seconds: None,
            handoff_waits: Arc::default(),
        }
    }

    /// Counts a live connection until the guard is dropped.
    pub fn active(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(self))
    }

    /// Counts a connection's end.
    pub fn ended(&self, outcome: ConnectionOutcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that ended so.
    pub fn outcomes(&self, outcome: ConnectionOutcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// Live connections.
    pub fn active_now(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The data paths that exist, with their label values.
pub(super) const DATA_PATHS: [(DataPath, &str); 2] = [(DataPath::Copy, "copy"), (DataPath::Splice, "splice")];

/// Seconds, from a tenth of a millisecond to ten seconds.
pub(super) const SECONDS_BOUNDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Classic hellos are under 600 bytes, post-quantum ones around 1,700; the last bound is the default `maxBytes`.
pub(super) const HELLO_BYTES_BOUNDS: &[f64] = &[256.0, 512.0, 1024.0, 1536.0, 2048.0, 4096.0, 8192.0, 16384.0, 65536.0];

fn data_path_index(path: DataPath) -> usize {
    match path {
        DataPath::Copy => 0,
        DataPath::Splice => 1,
    }
}

fn zeroes<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}
