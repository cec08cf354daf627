//! Replays the writes after a checkpoint onto a copy of it, before it is opened.
//!
//! Nothing is removed from the journal: the files that removed rows are in may not be in the checkpoint. So the journal comes to
//! hold every log since then, and the overlay takes them in when the copy is opened. How far the replay is stands in the same
//! write as what it writes, under the name of the chain that is replayed; so it may be begun anew after a crash.

use super::boot::boot_number;
use super::codec::{put_varint, take_varint};
use super::directory::{OpenError, lock_dir, open_at, refuse_damage};
use super::error::StoreError;
use super::lock::DirLock;
use super::options::StoreOptions;
use super::restored::mark;
use super::table::Table;
use super::tap::TailBatch;
use super::wal_tail::{Chain, Numbers};
use super::whole;
use super::write_batch::{self, Change, HEAD, Record};
use rocksdb::{DB, WriteBatch};
use std::path::PathBuf;

/// No shard's: it is one byte longer than any of theirs.
const REPLAYED_ROW: [u8; 3] = *b"\0rp";

/// Why a write was not replayed. Those before it are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ReplayError {
    #[error("the writes after sequence {after} do not follow: {why}")]
    Gap { after: u64, why: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A replay under way.
pub struct Replay {
    rocks: DB,
    numbers: Numbers,
    name: Vec<u8>,
    chain: Chain,
    /// Up to here everything is in the copy.
    done: u64,
    ended: bool,
    _lock: DirLock,
}

impl Replay {
    /// Begins, or goes on, in the directory of a copy. `name` is the chain's: nobody else's, and the same after a crash. `after`
    /// is the checkpoint's sequence. Puts the marker of an unfinished copy there. Blocks on disk.
    pub fn begin(options: &StoreOptions, name: &[u8], after: u64) -> Result<Self, OpenError> {
        let dir: PathBuf = options.data_dir.clone();
        let unusable = |source| OpenError::Directory { dir: dir.clone(), source };
        let state = |source| OpenError::State { dir: dir.clone(), source };
        if !dir.join("CURRENT").exists() {
            return Err(unusable(std::io::ErrorKind::NotFound.into()));
        }
        let lock = lock_dir(&dir)?;
        mark(&dir).map_err(unusable)?;
        let known = refuse_damage(options, &options.of_database(None))?;
        let rocks = open_at(options, &dir)?;
        let (last, promised) = (rocks.latest_sequence_number(), known.promised(boot_number()).max(after));
        if last < promised {
            return Err(OpenError::Damaged { damage: whole::ends_too_soon(&dir, last, promised), dir });
        }
        let numbers = Numbers::of(&rocks)
            .ok_or_else(|| state(StoreError::Corrupt { table: "default", what: "a table is not there" }))?;
        let (done, ended) = match read_row(&rocks, name).map_err(state)? {
            Some(row) => row,
            // A checkpoint may have later writes, too.
            None => (last, false),
        };
        let chain = Chain { last: after, in_flush: false };
        Ok(Self { rocks, numbers, name: name.to_owned(), chain, done, ended, _lock: lock })
    }

    /// Replays the next write. They must come from the first after the checkpoint on, also when the replay is begun anew.
    pub fn apply(&mut self, batch: &TailBatch) -> Result<(), ReplayError> {
        let after = self.chain.last;
        self.chain.take(self.numbers, batch).map_err(|why| ReplayError::Gap { after, why })?;
        if batch.last() <= self.done || self.ended {
            return Ok(());
        }
        let records = write_batch::records(&batch.bytes);
        let records = records.ok_or_else(|| ReplayError::Gap { after, why: "a batch cannot be read".to_owned() })?;
        let mut bytes = batch.bytes[..HEAD].to_vec();
        let mut count = 0u32;
        for record in records.iter().filter(|record| is_replayed(self.numbers, record)) {
            bytes.extend_from_slice(&batch.bytes[record.bytes.clone()]);
            count += 1;
        }
        bytes[..8].fill(0);
        bytes[8..HEAD].copy_from_slice(&count.to_le_bytes());
        self.write(WriteBatch::from_data(&bytes), batch.last(), false)?;
        self.done = batch.last();
        Ok(())
    }

    /// Ends the replay: what comes later in the chain is not replayed any more. Durable where it returns. Says up to which
    /// sequence it went.
    pub fn end(mut self) -> Result<u64, StoreError> {
        if !self.ended {
            self.write(WriteBatch::default(), self.done, true)?;
            self.ended = true;
        }
        self.rocks.flush_wal(true).map_err(StoreError::rocks("syncing what was replayed"))?;
        self.rocks.cancel_all_background_work(true);
        Ok(self.done)
    }

    fn write(&self, mut batch: WriteBatch, done: u64, ended: bool) -> Result<(), StoreError> {
        const NO_TABLE: StoreError = StoreError::Corrupt { table: "meta", what: "the table is not there" };
        let mut row = vec![u8::from(ended)];
        put_varint(&mut row, done);
        row.extend_from_slice(&self.name);
        let meta = self.rocks.cf_handle(Table::Meta.name()).ok_or(NO_TABLE)?;
        batch.put_cf(meta, REPLAYED_ROW, row);
        self.rocks.write(batch).map_err(StoreError::rocks("replaying a write"))
    }
}

/// How far a replay of this chain is, and whether it ended.
fn read_row(rocks: &DB, name: &[u8]) -> Result<Option<(u64, bool)>, StoreError> {
    let Some(meta) = rocks.cf_handle(Table::Meta.name()) else { return Ok(None) };
    let row = rocks.get_cf(meta, REPLAYED_ROW).map_err(StoreError::rocks("reading how far a replay is"))?;
    let Some((ended, mut rest)) = row.as_deref().and_then(<[u8]>::split_first) else { return Ok(None) };
    let done = take_varint(&mut rest);
    Ok(done.filter(|_| rest == name).map(|done| (done, *ended != 0)))
}

/// All but notes, which speak of other sequences; removals from the journal; and that erasures are at rest, which is true of the
/// other store's files.
fn is_replayed(numbers: Numbers, record: &Record<'_>) -> bool {
    match record.change {
        Change::Note => false,
        Change::Put => true,
        Change::Delete { key } if record.table == numbers.meta => key.get(1) != Some(&b'e') || key.len() != 2,
        Change::Delete { .. } | Change::DeleteRange => record.table != numbers.journal,
    }
}
