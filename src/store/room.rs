//! Memory for reads.

use super::codec::LogRow;
use crate::model::{Entry, Reservation, Section};

/// The memory that one read takes up, bounded by whoever has it made.
pub trait Room: Send + 'static {
    /// Takes so many bytes more, if there are as many.
    fn take(&mut self, bytes: usize) -> bool;

    /// Whether all that was asked for could ever be had.
    fn could_fit(&self) -> bool;

    /// How much is taken now, for [`Room::back_to`].
    fn mark(&self) -> usize;

    /// What was taken since the mark is needed no more: the same is read once again, or something else in its place.
    fn back_to(&mut self, mark: usize);
}

/// As much as there is: where what is read is bounded by itself.
#[derive(Debug, Clone, Copy)]
pub struct Unbounded;

impl Room for Unbounded {
    fn take(&mut self, _bytes: usize) -> bool {
        true
    }

    fn could_fit(&self) -> bool {
        true
    }

    fn mark(&self) -> usize {
        0
    }

    fn back_to(&mut self, _mark: usize) {}
}

impl LogRow {
    /// Bytes of it in memory, beside itself.
    pub(in crate::store) fn bytes(&self) -> usize {
        let of_section = |section: &Section| {
            let entries = if section.entries.spilled() { section.entries.capacity() } else { 0 };
            entries * size_of::<Entry>() + section.reservations.capacity() * size_of::<Reservation>()
        };
        let sections = if self.log.sections.spilled() { self.log.sections.capacity() } else { 0 };
        sections * size_of::<Section>() + self.log.sections.iter().map(of_section).sum::<usize>()
    }
}
