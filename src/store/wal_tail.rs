//! The writes after a checkpoint, as RocksDB's write-ahead log has them: they make the store of today of the checkpoint. What is
//! shipped is kept on the way there (`tap.rs`); this is what that is compared with.
//!
//! A file that a flush of the overlay takes in has a sequence of its own, and is in no batch. So one sequence may be missing
//! between the two writes that a flush makes before and after it; any other that is missing is a [`TailError::Gap`], and only a
//! new checkpoint helps. What the file has is in rows of the journal: whoever replays keeps those (see [`super::replay`]).

use super::db::Db;
use super::error::StoreError;
use super::store::Store;
use super::table::Table;
use super::tap::TailBatch;
use super::write_batch::{self, Change};
use rocksdb::{DB, WriteBatch};
use std::sync::Arc;

/// Why there is no next write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum TailError {
    #[error("the writes after sequence {after} cannot be told one by one ({why}): a new checkpoint is needed")]
    Gap { after: u64, why: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks that writes follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// The last sequence of the last write.
    pub(super) last: u64,
    /// A flush began: a file may take one sequence.
    pub(super) in_flush: bool,
}

/// The numbers of the tables that a chain looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) logs: u64,
    pub(super) journal: u64,
    pub(super) meta: u64,
}

impl Numbers {
    pub(super) fn of(rocks: &DB) -> Option<Self> {
        let number = |table| write_batch::number_of(rocks, table);
        Some(Self { logs: number(Table::Logs)?, journal: number(Table::Journal)?, meta: number(Table::Meta)? })
    }
}

impl Chain {
    /// Takes the next write, or says why it is not the next.
    pub(super) fn take(&mut self, numbers: Numbers, batch: &TailBatch) -> Result<(), String> {
        let follows = batch.first == self.last + 1;
        let follows_a_file = self.in_flush && batch.first == self.last + 2;
        if !follows && !follows_a_file {
            return Err(format!("the next one is {}", batch.first));
        }
        let records = write_batch::records(&batch.bytes).ok_or("a batch cannot be read")?;
        if write_batch::count(&batch.bytes) != Some(batch.count) || batch.count == 0 {
            return Err("a batch has another count than is said of it".to_owned());
        }
        self.in_flush &= follows;
        for record in records {
            match record.change {
                Change::DeleteRange if record.table == numbers.journal => self.in_flush = false,
                Change::Delete { .. } if record.table == numbers.journal => self.in_flush = true,
                // An erasure of what could not be read. The journal's rows would bring back what it removed.
                Change::Note => {}
                _ if record.table == numbers.logs => return Err("logs were changed outside of the journal".to_owned()),
                _ => {}
            }
        }
        self.last = batch.last();
        Ok(())
    }
}

/// Reads the writes after a checkpoint.
pub struct WalTail {
    db: Arc<Db>,
    numbers: Numbers,
    chain: Chain,
}

impl Store {
    /// The writes after a checkpoint that this run of the store took; `after` is its sequence. The log is kept for as long as
    /// `StoreOptions::keep_wal_s` says.
    pub fn wal_tail(&self, after: u64) -> Result<WalTail, StoreError> {
        const NO_TABLE: StoreError = StoreError::Corrupt { table: "default", what: "a table is not there" };
        let numbers = Numbers::of(&self.db.rocks).ok_or(NO_TABLE)?;
        // A checkpoint is taken beside no flush.
        Ok(WalTail { db: self.db.clone(), numbers, chain: Chain { last: after, in_flush: false } })
    }
}

impl WalTail {
    /// Every write up to this sequence was read.
    pub fn position(&self) -> u64 {
        self.chain.last
    }

    /// Sequences that are not read yet.
    pub fn behind(&self) -> u64 {
        self.db.rocks.latest_sequence_number().saturating_sub(self.chain.last)
    }

    /// The next writes: at least one if there is any, then as many as have so many bytes together. After an error nothing of
    /// the tail is of use any more. Blocks on disk.
    pub fn read(&mut self, max_bytes: usize) -> Result<Vec<TailBatch>, TailError> {
        let mut batches = Vec::new();
        let mut room = max_bytes;
        loop {
            let before = self.chain.last;
            // Where RocksDB meets the sequence of a file it ends with an error, and has to be asked for what follows it.
            let mut error = self.read_from(before, &mut batches, &mut room)?;
            if error.is_some() && self.chain.last == before && self.chain.in_flush {
                error = self.read_from(before + 1, &mut batches, &mut room)?;
            }
            match error {
                None => return Ok(batches),
                Some(_) if room == 0 => return Ok(batches),
                Some(error) if self.chain.last == before => return Err(self.gap(error.to_string())),
                Some(_) => {}
            }
        }
    }

    /// Adds the writes after a sequence until there is no room. Returns how RocksDB's iterator failed.
    fn read_from(
        &mut self,
        after: u64,
        batches: &mut Vec<TailBatch>,
        room: &mut usize,
    ) -> Result<Option<rocksdb::Error>, TailError> {
        let mut updates = match self.db.rocks.get_updates_since(after) {
            Ok(updates) => updates,
            Err(error) => return Ok(Some(error)),
        };
        while *room > 0 {
            let (first, batch): (u64, WriteBatch) = match updates.next() {
                Some(Ok(next)) => next,
                Some(Err(error)) => return Ok(Some(error)),
                None => return Ok(updates.status().err()),
            };
            let bytes = batch.data().to_vec();
            let batch = TailBatch { first, count: write_batch::count(&bytes).unwrap_or(0), bytes };
            self.chain.take(self.numbers, &batch).map_err(|why| self.gap(why))?;
            *room = room.saturating_sub(batch.bytes.len());
            batches.push(batch);
        }
        Ok(None)
    }

    fn gap(&self, why: String) -> TailError {
        TailError::Gap { after: self.chain.last, why }
    }
}

#[cfg(test)]
#[path = "wal_tail_tests.rs"]
mod tests;
