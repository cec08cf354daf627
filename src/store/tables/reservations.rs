//! The table `reservations`: every call of `/reserve` under its id, with the answer that a repetition gets.

use crate::model::{Kind, ShardId, TsMs};
use crate::store::codec::{put_bytes, put_varint, take_text, take_varint};
use crate::store::db::Db;
use crate::store::error::{ReadError, StoreError};
use crate::store::room::Room;
use crate::store::row::{ShardPrefix, UserPrefix};
use crate::store::table::Table;
use rocksdb::{DBPinnableSlice, WriteBatch};
use std::sync::Arc;

/// A call that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationRow {
    /// From here on the call counts as unknown.
    pub kept_until: TsMs,
    /// Hash of the call's body as a JSON value.
    pub body_hash: u128,
    /// The kind of the confirming events.
    pub kind: Kind,
    /// The reserved ads; one reserved twice is here twice.
    pub das: Vec<String>,
    /// The answer, in JSON.
    pub answer: Vec<u8>,
}

const CORRUPT: StoreError = StoreError::Corrupt { table: "reservations", what: "a row ends too soon" };

impl ReservationRow {
    pub(in crate::store) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.kept_until.0);
        out.extend_from_slice(&self.body_hash.to_le_bytes());
        put_bytes(out, self.kind.as_str().as_bytes());
        put_varint(out, self.das.len() as u64);
        self.das.iter().for_each(|da| put_bytes(out, da.as_bytes()));
        out.extend_from_slice(&self.answer);
    }

    pub(in crate::store) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let kept_until = TsMs(take_varint(&mut bytes)?);
        let (body_hash, rest) = bytes.split_first_chunk()?;
        bytes = rest;
        let kind = Kind::new(take_text(&mut bytes)?).ok()?;
        let das = usize::try_from(take_varint(&mut bytes)?).ok().filter(|&das| das <= bytes.len())?;
        let das = (0..das).map(|_| take_text(&mut bytes).map(str::to_owned)).collect::<Option<_>>()?;
        let body_hash = u128::from_le_bytes(*body_hash);
        Some(Self { kept_until, body_hash, kind, das, answer: bytes.to_vec() })
    }
}

/// Until when a row is kept; for the compaction filter.
pub(in crate::store) fn kept_until(mut value: &[u8]) -> Option<TsMs> {
    take_varint(&mut value).map(TsMs)
}

/// A page of calls ends at this many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// Some calls of a user without their answers, and where to continue.
#[derive(Debug, Default)]
pub struct UserCalls {
    /// Ids and rows, in the order of the ids.
    pub calls: Vec<(String, ReservationRow)>,
    /// Continue after this id; `None` at the end.
    pub next: Option<String>,
}

/// The table.
pub struct Reservations {
    db: Arc<Db>,
}

impl Reservations {
    pub(in crate::store) fn new(db: Arc<Db>) -> Self {
        Self { db }
    }

    /// Up to `max` calls of a user after an id, or from the first if it is empty, by id, except those expired at `now`.
    /// Fewer if their ads and answers are long. Blocks on disk.
    pub fn of_user_after(
        &self,
        user: &str,
        after: &str,
        max: usize,
        now: TsMs,
        room: &mut impl Room,
    ) -> Result<UserCalls, ReadError> {
        let prefix = UserPrefix::new(user);
        let mut range = prefix.rows();
        if !after.is_empty() {
            range.start.extend_from_slice(after.as_bytes());
            range.start.push(0);
        }
        let mut page = UserCalls::default();
        let mut last = after.to_owned();
        let mut bytes = 0;
        for row in self.db.rows(Table::Reservations, range, "reading the calls of a user") {
            if page.calls.len() == max || bytes >= PAGE_BYTES {
                page.next = Some(last);
                break;
            }
            let (key, value) = row?;
            let id = key.get(prefix.as_bytes().len()..).and_then(|id| std::str::from_utf8(id).ok()).ok_or(CORRUPT)?;
            id.clone_into(&mut last);
            let mut row = ReservationRow::decode(&value).ok_or(CORRUPT)?;
            if row.kept_until > now {
                row.answer = Vec::new();
                let more = row.das.iter().map(String::capacity).sum::<usize>() + row.das.len() * size_of::<String>();
                bytes += size_of::<(String, ReservationRow)>() + id.len() + more;
                if !room.take(size_of::<(String, ReservationRow)>() + id.len() + more) {
                    return Err(ReadError::NoRoom);
                }
                page.calls.push((id.to_owned(), row));
            }
        }
        Ok(page)
    }

    /// Passes every call of a shard to `each`, with its row key, except those expired at `now`. Blocks on disk.
    pub fn of_shard(
        &self,
        shard: ShardId,
        now: TsMs,
        mut each: impl FnMut(&[u8], ReservationRow),
    ) -> Result<(), StoreError> {
        for row in self.db.rows(Table::Reservations, ShardPrefix(shard).rows(), "reading the calls of a shard") {
            let (key, value) = row?;
            let row = ReservationRow::decode(&value).ok_or(CORRUPT)?;
            if row.kept_until > now {
                each(&key, row);
            }
        }
        Ok(())
    }

    /// Reads calls by their row keys (user and id), in the order given. A call expired at `now` counts as absent, and
    /// so does one that cannot be read, whose number goes into `unreadable`. Blocks on disk.
    pub fn get_many<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a [u8]>,
        now: TsMs,
        unreadable: &mut Vec<usize>,
    ) -> Vec<Option<ReservationRow>> {
        let keys: Vec<&[u8]> = keys.into_iter().collect();
        let rows = self.db.get_many(Table::Reservations, &keys, false, "reading reservations");
        let mut read = Vec::with_capacity(rows.len());
        for (number, row) in rows.into_iter().enumerate() {
            let row = row.and_then(decode).unwrap_or_else(|error| {
                self.db.count_unreadable(Table::Reservations, &error);
                unreadable.push(number);
                None
            });
            read.push(row.filter(|row| row.kept_until > now));
        }
        read
    }

    /// Stores the answer to a call of `/reserve` under user and id.
    pub(in crate::store) fn put(
        &self,
        batch: &mut WriteBatch,
        row_key: &[u8],
        row: &ReservationRow,
        scratch: &mut Vec<u8>,
    ) {
        scratch.clear();
        row.encode(scratch);
        batch.put_cf(self.db.cf(Table::Reservations), row_key, scratch);
    }
}

fn decode(row: Option<DBPinnableSlice<'_>>) -> Result<Option<ReservationRow>, StoreError> {
    row.map(|row| ReservationRow::decode(&row).ok_or(CORRUPT)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_reservation_never_change() {
        let row = ReservationRow {
            kept_until: TsMs(1_732_237_260_000),
            body_hash: 7,
            kind: Kind::IMPRESSION,
            das: vec!["77".to_owned(), "é".to_owned()],
            answer: b"{}".to_vec(),
        };
        let mut out = Vec::new();
        row.encode(&mut out);
        let kept = [0xe0, 0xe9, 0x8b, 0x8b, 0xb5, 0x32];
        let mut expected = kept.to_vec();
        expected.push(7);
        expected.extend([0; 15]);
        expected.extend(b"\x0aimpression\x02\x0277\x02\xc3\xa9{}");
        assert_eq!(out, expected);
        assert_eq!(kept_until(&out), Some(row.kept_until));
        assert_eq!(ReservationRow::decode(&out), Some(row));
        for end in 0..out.len() - 2 {
            assert_eq!(ReservationRow::decode(&out[..end]), None);
        }
    }
}
