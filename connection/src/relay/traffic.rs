//! Live byte counters, shared by all relays of a tenant.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes delivered, added to as they move.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes written to backends.
    pub client_to_backend: AtomicU64,
    /// Bytes written to clients.
    pub backend_to_client: AtomicU64,
}

impl Traffic {
    /// Both counters now: client to backend, backend to client.
    pub fn totals(&self) -> (u64, u64) {
        (self.client_to_backend.load(Ordering::Relaxed), self.backend_to_client.load(Ordering::Relaxed))
    }
}
