//! How many changes, or rows of a full sync, one batch of commands has: fewer after a timeout, more after each success.

use super::error::MirrorError;

/// A batch is not made smaller than this.
const BATCH_MIN: usize = 50;

/// The size of the next batch.
#[derive(Debug)]
pub(super) struct BatchSize {
    current: usize,
    max: usize,
}

impl BatchSize {
    /// Begins with the largest size.
    pub fn new(max: usize) -> Self {
        Self { current: max, max }
    }

    pub fn get(&self) -> usize {
        self.current
    }

    /// Grows by an eighth.
    pub fn succeeded(&mut self) {
        self.current = (self.current + self.current / 8 + 1).min(self.max);
    }

    /// Halves the size if Redis did not answer in time.
    pub fn failed(&mut self, error: &MirrorError) {
        if matches!(error, MirrorError::Slow { .. }) {
            self.current = (self.current / 2).max(BATCH_MIN);
        }
    }
}
