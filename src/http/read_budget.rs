//! The memory for reads: for what they read and for their answers, until those are sent.

use super::body_budget::semaphore_kib;
use super::problem::Problem;
use crate::store::Room;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The memory for what all reads read and answer.
#[derive(Debug)]
pub(super) struct ReadMemory {
    /// A permit a KiB.
    kib: Arc<Semaphore>,
    total_kib: usize,
}

impl ReadMemory {
    pub(super) fn new(bytes: u64) -> Self {
        let total_kib = semaphore_kib(bytes);
        Self { kib: Arc::new(Semaphore::new(total_kib)), total_kib }
    }

    /// Bytes that are taken, beyond what each read has without a permit.
    pub(super) fn bytes(&self) -> u64 {
        (self.total_kib.saturating_sub(self.kib.available_permits()) as u64) << 10
    }
}

/// The memory that one read has taken, for what it reads and for its answer.
pub(super) struct ReadBudget {
    all: Arc<ReadMemory>,
    permit: Option<OwnedSemaphorePermit>,
    permit_bytes: usize,
    used: usize,
}

impl ReadBudget {
    /// Bytes that every admitted read may use without a permit. Most need no more.
    const FREE: usize = 16 << 10;
    /// More is taken in steps of this many bytes.
    const STEP: usize = 64 << 10;

    pub(super) fn new(all: Arc<ReadMemory>) -> Self {
        Self { all, permit: None, permit_bytes: 0, used: 0 }
    }

    /// Whether it needed no permit, so that there is nothing to give back.
    pub(super) fn is_small(&self) -> bool {
        self.permit.is_none()
    }

    /// Why there was no memory.
    pub(super) fn refusal(&self) -> Problem {
        if self.could_fit() { Problem::overloaded("reads") } else { Problem::answer_too_large() }
    }
}

impl Room for ReadBudget {
    #[inline]
    fn take(&mut self, bytes: usize) -> bool {
        self.used = self.used.saturating_add(bytes);
        let Some(more) = self.used.checked_sub(Self::FREE + self.permit_bytes).filter(|more| *more > 0) else {
            return true;
        };
        let more = more.next_multiple_of(Self::STEP);
        let Ok(kib) = u32::try_from(more >> 10) else { return false };
        let Ok(permit) = self.all.kib.clone().try_acquire_many_owned(kib) else { return false };
        match &mut self.permit {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
        self.permit_bytes += more;
        true
    }

    fn could_fit(&self) -> bool {
        self.used.saturating_sub(Self::FREE).next_multiple_of(Self::STEP) >> 10 <= self.all.total_kib
    }

    fn mark(&self) -> usize {
        self.used
    }

    /// The permits stay: what is read next wants them again.
    fn back_to(&mut self, mark: usize) {
        self.used = mark;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_again_takes_its_memory_once() {
        let all = Arc::new(ReadMemory::new(256 << 10));
        let mut budget = ReadBudget::new(all.clone());
        assert!(budget.take(10_000));
        let mark = budget.mark();
        for _ in 0..10 {
            budget.back_to(mark);
            assert!(budget.take(200_000));
            assert_eq!(all.bytes(), 192 << 10);
        }
        assert!(!budget.take(200_000) && !budget.could_fit());
        budget.back_to(mark);
        assert!(budget.could_fit());
        drop(budget);
        assert_eq!(all.bytes(), 0);
    }
}
