//! What the tenant serves at this moment. Handshakes take it as it is when they begin; a reload replaces it whole, so
//! that no handshake sees half of one.

use std::sync::{Arc, PoisonError, RwLock};

use crate::tls_config::TenantTls;

/// The current [`TenantTls`].
#[derive(Debug)]
pub(crate) struct LiveTls(RwLock<Arc<TenantTls>>);

impl LiveTls {
    /// Begins with this one.
    pub(crate) fn new(tls: TenantTls) -> Self {
        Self(RwLock::new(Arc::new(tls)))
    }

    /// What a handshake that begins now is served with. The lock is held for the copy of a pointer.
    pub(crate) fn current(&self) -> Arc<TenantTls> {
        // A poisoned lock cannot hold anything half-written: what it guards is one pointer.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves every handshake from here on with `tls`; the old one, with its keys, goes with its last handshake.
    pub(crate) fn replace(&self, tls: TenantTls) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
    }
}
