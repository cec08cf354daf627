//! What all streams share, and the place that each of them has.

use super::ring::Ring;
use super::status::Figures;
use super::stores::Stores;
use crate::clock::Clock;
use crossbeam_channel::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// What all streams share.
pub(super) struct Shared {
    pub stores: Stores,
    pub ring: Ring,
    pub figures: Figures,
    pub clock: Clock,
    /// Which store, and which history of it: sequences of another one mean nothing here.
    pub mark: u64,
    /// Cancelled when streams are to end.
    pub stop: CancellationToken,
    /// Has threads of lower priority.
    pub background: Handle,
    pub disk: Semaphore,
    pub seats: Arc<Semaphore>,
    pub streams_max: usize,
    /// When the last stream ended. Until one does: the start.
    pub left_at: Mutex<Instant>,
    pub wake: Sender<()>,
}

impl Shared {
    /// Wakes the hub while it waits for a stream.
    pub fn wake_hub(&self) {
        // One that is not taken yet is as good.
        let _ = self.wake.try_send(());
    }

    /// When the last stream ended.
    pub fn left_at(&self) -> Instant {
        *self.left_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that is open: one place of those that there are, and a follower in the ring.
pub(super) struct Seat {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Seat {
    pub fn new(shared: &Arc<Shared>, permit: OwnedSemaphorePermit) -> Self {
        shared.ring.enter(|| shared.stores.durable());
        shared.figures.open.increment(1.0);
        shared.wake_hub();
        Self { shared: shared.clone(), _permit: permit }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.figures.open.decrement(1.0);
        *self.shared.left_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.shared.ring.leave();
    }
}
