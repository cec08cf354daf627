//! Passes over logs in the order of their row keys, wherever they are.

use super::overlay::{Lost, OwnedRows, Walk};
use super::row::{shard_rows, user_rows};
use super::step_over::seek_past;
use super::{Store, StoreError, Table};
use crate::model::ShardId;
use rocksdb::{DBRawIterator, ReadOptions};
use std::ops::Range;

/// Rows of `logs` on one consistent view: those of RocksDB, and in their place those of the overlay.
pub(super) struct LogRows<'s> {
    overlay: std::iter::Peekable<std::vec::IntoIter<(Vec<u8>, Vec<u8>)>>,
    /// Where more of the overlay come from, and which.
    more: Option<(Walk<'s>, Option<Range<Vec<u8>>>)>,
    /// Before which key rows end; where the iterator does without it.
    end: Option<Vec<u8>>,
    files: DBRawIterator<'s>,
    /// The row of the overlay that was given last.
    current: (Vec<u8>, Vec<u8>),
    /// Whether the row at which `files` stands is done with.
    is_past: bool,
    /// Where rows that cannot be read are stepped over.
    steps_over: Option<StepsOver<'s>>,
}

/// How rows that cannot be read are stepped over.
struct StepsOver<'s> {
    store: &'s Store,
    /// The key of the row before.
    before: Vec<u8>,
    /// Where they end.
    end: Vec<u8>,
    /// How often.
    gaps: u64,
    /// Nothing can be read up to the end.
    is_over: bool,
}

/// A row key and the bytes of its log.
pub(super) type RawRow<'a> = (&'a [u8], &'a [u8]);

/// Where the next row is.
enum At {
    Overlay,
    Files,
    End,
}

impl Store {
    /// The logs of a user in a range of theirs, however many there are: no more than a step of them is copied at a time.
    /// Blocks on disk.
    pub(super) fn rows_of_user(&self, user: &str, range: Range<Vec<u8>>) -> LogRows<'_> {
        let prefix = user_rows(user).start;
        let mut options = ReadOptions::default();
        options.set_iterate_range(range.clone());
        // The two stand for one instant: what is flushed later is in the walk still, and not in what the iterator sees.
        let files = || self.db.raw_iterator_cf_opt(self.cf(Table::Logs), options);
        let (walk, mut files) = self.overlay.walk(&prefix, files);
        files.seek_to_first();
        LogRows {
            overlay: OwnedRows::new().into_iter().peekable(),
            more: Some((walk, Some(range))),
            end: None,
            files,
            current: Default::default(),
            is_past: false,
            steps_over: None,
        }
    }

    /// The same, but for those that cannot be read.
    pub(super) fn readable_rows_of_user(&self, user: &str) -> LogRows<'_> {
        let range = user_rows(user);
        self.log_rows(ShardId::of_user(user.as_bytes()), range.clone(), true).stepping_over(self, range)
    }

    /// The logs of a shard after a row key, from the first where that is `None`, but for those that cannot be read. Blocks on disk.
    pub(super) fn rows_of_shard(&self, shard: ShardId, after: Option<&[u8]>) -> LogRows<'_> {
        let Range { start, end } = shard_rows(shard);
        // The least key after a key is that key and a zero byte.
        let start = after.map_or(start, |after| [after, &[0]].concat());
        self.log_rows(shard, start.clone()..end.clone(), false).stepping_over(self, start..end)
    }

    /// The logs of a shard in a range.
    pub(super) fn log_rows(&self, shard: ShardId, range: Range<Vec<u8>>, fill_cache: bool) -> LogRows<'_> {
        let view = self.overlay.view(shard);
        let overlay: OwnedRows = view.sorted(|key| range.start.as_slice() <= key && key < range.end.as_slice());
        let mut options = ReadOptions::default();
        options.set_iterate_range(range);
        options.fill_cache(fill_cache);
        // While the view stands, nothing of the shard leaves the overlay.
        let mut files = self.db.raw_iterator_cf_opt(self.cf(Table::Logs), options);
        drop(view);
        files.seek_to_first();
        LogRows {
            overlay: overlay.into_iter().peekable(),
            more: None,
            end: None,
            files,
            current: Default::default(),
            is_past: false,
            steps_over: None,
        }
    }
}

impl<'s> LogRows<'s> {
    /// The same, but for rows that cannot be read, in the range that they are of.
    fn stepping_over(self, store: &'s Store, Range { start, end }: Range<Vec<u8>>) -> Self {
        Self { steps_over: Some(StepsOver { store, before: start, end, gaps: 0, is_over: false }), ..self }
    }

    /// How often rows could not be read.
    pub(super) fn gaps(&self) -> u64 {
        self.steps_over.as_ref().map_or(0, |over| over.gaps)
    }

    /// Goes to the rows of a range, which may lie anywhere in the one that was asked for.
    pub(super) fn go_to(&mut self, range: Range<Vec<u8>>) {
        self.files.seek(&range.start);
        self.is_past = false;
        self.overlay = OwnedRows::new().into_iter().peekable();
        self.end = Some(range.end.clone());
        if let Some((_, more)) = &mut self.more {
            *more = Some(range);
        }
    }

    /// The next row.
    pub(super) fn next(&mut self) -> Result<Option<RawRow<'_>>, StoreError> {
        match self.step()? {
            At::Overlay => Ok(Some((&self.current.0, &self.current.1))),
            At::Files => Ok(self.files.item()),
            At::End => Ok(None),
        }
    }

    /// Goes past rows of files that cannot be read, where that is wanted.
    fn go_past(&mut self) -> Result<(), StoreError> {
        let Err(error) = self.files.status() else { return Ok(()) };
        let error = StoreError::rocks("reading logs in their order")(error);
        let Some(over) = &mut self.steps_over else { return Err(error) };
        while !over.is_over && !self.files.valid() && self.files.status().is_err() {
            over.store.unreadable(Table::Logs, &error);
            over.gaps += 1;
            let fresh = || over.store.rows_in(Table::Logs, over.before.clone()..over.end.clone(), false);
            match seek_past(fresh, &over.before) {
                Some(files) => self.files = files,
                None => over.is_over = true,
            }
        }
        Ok(())
    }

    /// Takes the next rows of the overlay, if there are any.
    fn take_more(&mut self) -> Result<(), StoreError> {
        while let Some((walk, more)) = &mut self.more
            && let Some(range) = more
            && self.overlay.len() == 0
        {
            let (rows, next) = walk.step(range).map_err(|Lost| StoreError::Overtaken)?;
            self.overlay = rows.into_iter().peekable();
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
            let overlay = self.overlay.next_if(|(key, _)| on_file.is_none_or(|on_file| key.as_slice() <= on_file));
            let Some(row) = overlay else {
                self.is_past = on_file.is_some();
                return Ok(if self.is_past { At::Files } else { At::End });
            };
            self.is_past = on_file == Some(&row.0);
            // Where it was removed there is none.
            if !row.1.is_empty() {
                self.current = row;
                return Ok(At::Overlay);
            }
        }
    }
}
