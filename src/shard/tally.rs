//! Counts of events by result.

use std::ops::AddAssign;

/// Counts of events by result.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub counted: usize,
    pub duplicate: usize,
    pub late: usize,
    pub erased: usize,
    pub opted_out: usize,
    pub too_many_kinds: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.counted += other.counted;
        self.duplicate += other.duplicate;
        self.late += other.late;
        self.erased += other.erased;
        self.opted_out += other.opted_out;
        self.too_many_kinds += other.too_many_kinds;
    }
}
