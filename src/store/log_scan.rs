//! Scans logs in the order of their row keys, in the overlay and in RocksDB.

use super::db::{Db, KeyRange};
use super::error::StoreError;
use super::overlay::walk::{Lost, Walk};
use super::overlay::{Overlay, OwnedRows};
use super::row::{ShardPrefix, UserPrefix};
use super::step_over::seek_past;
use super::table::Table;
use crate::model::ShardId;
use rocksdb::DBRawIterator;

/// Rows of `logs` in one consistent view: those of RocksDB, replaced by those of the overlay.
pub(in crate::store) struct LogScan<'s> {
    /// Rows of the overlay.
    changed: std::iter::Peekable<std::vec::IntoIter<(Vec<u8>, Vec<u8>)>>,
    /// The source of further rows of the overlay, and its range.
    more: Option<(Walk<'s>, Option<KeyRange>)>,
    /// The exclusive end of the rows, if the iterator does not have it.
    end: Option<Vec<u8>>,
    files: DBRawIterator<'s>,
    /// The row of the overlay returned last.
    current: (Vec<u8>, Vec<u8>),
    /// Whether the row at which `files` stands was returned or hidden.
    is_past: bool,
    /// Set to step over rows that cannot be read.
    steps_over: Option<StepsOver<'s>>,
}

/// The state of stepping over rows that cannot be read.
struct StepsOver<'s> {
    db: &'s Db,
    /// The key of the row before.
    before: Vec<u8>,
    /// The exclusive end of the scan.
    end: Vec<u8>,
    /// How often rows were stepped over.
    gaps: u64,
    /// Nothing more can be read up to the end.
    is_over: bool,
}

/// A row key and the bytes of its log.
pub(in crate::store) type RawRow<'a> = (&'a [u8], &'a [u8]);

/// Where the next row is.
enum At {
    Overlay,
    Files,
    End,
}

impl<'s> LogScan<'s> {
    /// The logs of a user in a range. Copies rows of the overlay step by step, so memory stays bounded. Blocks on disk.
    pub(in crate::store) fn of_user((db, overlay): (&'s Db, &'s Overlay), user: &UserPrefix, range: KeyRange) -> Self {
        // Both see the same instant: what is flushed later is still in the walk, and not in the iterator's snapshot.
        let (walk, files) = overlay.walk(user.as_bytes(), || db.raw_rows(Table::Logs, range.clone(), true));
        Self::new(OwnedRows::new(), Some((walk, Some(range))), files)
    }

    /// The logs of a user in a range, except those that cannot be read. Memory stays bounded. Blocks on disk.
    pub(in crate::store) fn readable_from(parts: (&'s Db, &'s Overlay), user: &UserPrefix, range: KeyRange) -> Self {
        Self::of_user(parts, user, range.clone()).stepping_over(parts.0, range)
    }

    /// The logs of a shard after a row key, or from the first, except those that cannot be read. Blocks on disk.
    pub(in crate::store) fn of_shard(
        (db, overlay): (&'s Db, &'s Overlay),
        shard: ShardId,
        after: Option<&[u8]>,
    ) -> Self {
        let range = ShardPrefix(shard).rows_after(after);
        Self::in_one_view((db, overlay), shard, range.clone(), false).stepping_over(db, range)
    }

    /// The logs of a shard in a range. The overlay's part is copied at once.
    fn in_one_view((db, overlay): (&'s Db, &'s Overlay), shard: ShardId, range: KeyRange, fill_cache: bool) -> Self {
        let view = overlay.view(shard);
        let changed = view.sorted(|key| range.start.as_slice() <= key && key < range.end.as_slice());
        // Made while the view is held, so nothing of the shard leaves the overlay before. A row flushed just after is
        // in the copy above, and this iterator sees RocksDB as it is now.
        let files = db.raw_rows(Table::Logs, range, fill_cache);
        drop(view);
        Self::new(changed, None, files)
    }

    fn new(changed: OwnedRows, more: Option<(Walk<'s>, Option<KeyRange>)>, mut files: DBRawIterator<'s>) -> Self {
        files.seek_to_first();
        Self {
            changed: changed.into_iter().peekable(),
            more,
            end: None,
            files,
            current: Default::default(),
            is_past: false,
            steps_over: None,
        }
    }

    /// The same, without rows that cannot be read.
    fn stepping_over(self, db: &'s Db, KeyRange { start, end }: KeyRange) -> Self {
        Self { steps_over: Some(StepsOver { db, before: start, end, gaps: 0, is_over: false }), ..self }
    }

    /// How often rows could not be read.
    pub(in crate::store) fn gaps(&self) -> u64 {
        self.steps_over.as_ref().map_or(0, |over| over.gaps)
    }

    /// Moves to a range within the one of the scan.
    pub(in crate::store) fn go_to(&mut self, range: KeyRange) {
        self.files.seek(&range.start);
        self.is_past = false;
        self.changed = OwnedRows::new().into_iter().peekable();
        self.end = Some(range.end.clone());
        if let Some((_, more)) = &mut self.more {
            *more = Some(range);
        }
    }

    /// The next row.
    pub(in crate::store) fn next(&mut self) -> Result<Option<RawRow<'_>>, StoreError> {
        match self.step()? {
            At::Overlay => Ok(Some((&self.current.0, &self.current.1))),
            At::Files => Ok(self.files.item()),
            At::End => Ok(None),
        }
    }

    /// Steps over rows of files that cannot be read, if asked to.
    fn go_past(&mut self) -> Result<(), StoreError> {
        let Err(error) = self.files.status() else { return Ok(()) };
        let error = StoreError::rocks("reading logs in their order")(error);
        let Some(over) = &mut self.steps_over else { return Err(error) };
        while !over.is_over && !self.files.valid() && self.files.status().is_err() {
            over.db.count_unreadable(Table::Logs, &error);
            over.gaps += 1;
            let fresh = || over.db.raw_rows(Table::Logs, over.before.clone()..over.end.clone(), false);
            match seek_past(fresh, &over.before) {
                Some(files) => self.files = files,
                None => over.is_over = true,
            }
        }
        Ok(())
    }

    /// Fetches further rows of the overlay.
    fn take_more(&mut self) -> Result<(), StoreError> {
        while let Some((walk, more)) = &mut self.more
            && let Some(range) = more
            && self.changed.len() == 0
        {
            let (rows, next) = walk.step(range).map_err(|Lost| StoreError::Overtaken)?;
            self.changed = rows.into_iter().peekable();
            match next {
                Some(next) => range.start = next,
                None => *more = None,
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<At, StoreError> {
        loop {
            self.take_more()?;
            if std::mem::take(&mut self.is_past) {
                if let Some(over) = &mut self.steps_over
                    && let Some(key) = self.files.key()
                {
                    over.before.clear();
                    over.before.extend_from_slice(key);
                }
                self.files.next();
            }
            if !self.files.valid() {
                self.go_past()?;
            }
            let on_file = self.files.key().filter(|key| self.end.as_deref().is_none_or(|end| *key < end));
            let changed = self.changed.next_if(|(key, _)| on_file.is_none_or(|on_file| key.as_slice() <= on_file));
            let Some(row) = changed else {
                self.is_past = on_file.is_some();
                return Ok(if self.is_past { At::Files } else { At::End });
            };
            self.is_past = on_file == Some(&row.0);
            // An empty row means that the log was removed.
            if !row.1.is_empty() {
                self.current = row;
                return Ok(At::Overlay);
            }
        }
    }
}
