//! Whether new requests should come here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How far events that were there before the service are counted.
#[derive(Debug, Clone, Copy)]
pub struct BackFill {
    /// Whether all of them were counted.
    pub caught_up: bool,
    /// Records that wait.
    pub lag: u64,
    /// Partitions that are not read.
    pub stopped: usize,
}

type AskBackFill = Arc<dyn Fn() -> BackFill + Send + Sync>;

/// Whether new requests should come here. Clones share it.
#[derive(Clone, Default)]
pub struct Readiness {
    draining: Arc<AtomicBool>,
    back_fill: Arc<Mutex<Option<AskBackFill>>>,
}

impl Readiness {
    /// Says from now on that requests should go elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Asks this how far the back-fill is, from now on.
    pub fn follow(&self, back_fill: impl Fn() -> BackFill + Send + Sync + 'static) {
        *self.back_fill.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(back_fill));
    }

    /// Whether the process is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// How far the back-fill is, where there is one.
    pub fn back_fill(&self) -> Option<BackFill> {
        // Asked outside of the lock.
        let back_fill = self.back_fill.lock().unwrap_or_else(PoisonError::into_inner).clone();
        back_fill.map(|back_fill| back_fill())
    }
}
