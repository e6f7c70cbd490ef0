//! How many connections the router holds for a listener at one time. Shared by the workers; a reload changes the bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The permits of one listener.
#[derive(Debug)]
pub struct Permits {
    semaphore: Arc<Semaphore>,
    most: AtomicUsize,
}

impl Permits {
    pub(super) fn new(most: usize) -> Self {
        Self { semaphore: Arc::new(Semaphore::new(count(most))), most: AtomicUsize::new(count(most)) }
    }

    /// One more, as soon as there is room. Never fails: nobody closes the semaphore. Cancel-safe.
    pub(super) async fn acquire(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        Arc::clone(&self.semaphore).acquire_owned().await
    }

    /// One more, if there is room now.
    pub(super) fn acquire_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.semaphore).try_acquire_owned().ok()
    }

    /// Another bound from now on. Where more are held than that, they stay, and nobody new comes until enough have
    /// ended. Needs a runtime.
    pub(super) fn change(&self, most: usize) {
        let most = count(most);
        let before = self.most.swap(most, Ordering::Relaxed);
        self.semaphore.add_permits(most.saturating_sub(before));
        let surplus = before.saturating_sub(most);
        let held_too_much = surplus - self.semaphore.forget_permits(surplus);
        if let Some(debt) = u32::try_from(held_too_much).ok().filter(|debt| *debt > 0) {
            let semaphore = Arc::clone(&self.semaphore);
            // In line before everybody who wants one from now on.
            tokio::spawn(async move {
                if let Ok(permits) = semaphore.acquire_many_owned(debt).await {
                    permits.forget();
                }
            });
        }
    }

    /// How many are held now, as far as the bound allows.
    pub(super) fn held(&self) -> usize {
        self.most.load(Ordering::Relaxed).saturating_sub(self.semaphore.available_permits())
    }
}

/// As many as a semaphore can count at one time.
fn count(most: usize) -> usize {
    most.min(u32::MAX as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_smaller_bound_waits_for_those_who_are_there() {
        let permits = Permits::new(3);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(permits.acquire().await.unwrap());
        }
        permits.change(1);
        let room = async |permits: &Permits| {
            tokio::task::yield_now().await;
            permits.semaphore.clone().try_acquire_owned().is_ok()
        };
        held.pop();
        assert!(!room(&permits).await);
        held.pop();
        assert!(!room(&permits).await);
        held.pop();
        tokio::task::yield_now().await;
        assert!(room(&permits).await);
        permits.change(2);
        let _both = (permits.acquire().await.unwrap(), permits.acquire().await.unwrap());
        assert!(!room(&permits).await);
        assert_eq!(permits.held(), 2);
    }
}
