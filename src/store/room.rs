//! Memory for reads.

use super::codec::LogRow;
use crate::model::{Entry, Reservation, Section};

/// The memory of one read, limited by its caller.
pub trait Room: Send + 'static {
    /// Takes more bytes; false if there are not enough.
    fn take(&mut self, bytes: usize) -> bool;

    /// Whether everything asked for would fit if nothing else were taken.
    fn could_fit(&self) -> bool;

    /// How much is taken now, for [`Room::back_to`].
    fn mark(&self) -> usize;

    /// Gives back what was taken since the mark: the same is read again, or something else instead.
    fn back_to(&mut self, mark: usize);
}

/// No limit, for reads that are small by themselves.
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
    /// Bytes that the log takes in memory, besides its own size.
    pub(in crate::store) fn bytes(&self) -> usize {
        let sections = if self.log.sections.spilled() { self.log.sections.capacity() } else { 0 };
        let mut bytes = sections * size_of::<Section>();
        for section in &self.log.sections {
            let entries = if section.entries.spilled() { section.entries.capacity() } else { 0 };
            bytes += entries * size_of::<Entry>() + section.reservations.capacity() * size_of::<Reservation>();
        }
        bytes
    }
}
