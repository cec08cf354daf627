//! What must hold of every row, whole or damaged, for the fuzzers of `fuzz/` and the corpus test of
//! [`crate::fuzzing`]: no row makes a decoder panic or take memory without bound, and what is read can be written and
//! read again.

use super::codec::{decode_cap, encode_cap, newest_of_log, put_varint, take_bytes, take_varint};
use super::row::{RowKey, RowKeys, ShardPrefix, UserPrefix, user_prefix};
use super::tables::ads;
use super::tables::changes::{self, ChangeKey};
use super::tables::due::{self, InstantPrefix};
use super::tables::erased;
use super::tables::journal;
use super::tables::kafka_offsets::{Frontier, Rows, decode_taken, encode_taken};
use super::tables::reservations::{ReservationRow, kept_until};
use super::tables::rules::RulesMark;
use super::{decode_log, encode_log};
use crate::model::{CapKey, Entry, EventId, Kind, Log, Reservation, SHARDS, ShardId, ShardSet, TsMs, UserId};

/// A row of `ads`.
pub(crate) fn ad(bytes: &[u8]) {
    ads::checked(bytes);
}

/// A row of `logs`.
pub(crate) fn log(bytes: &[u8]) {
    let newest = newest_of_log(bytes);
    let Ok(row) = decode_log(bytes) else { return };
    assert!(!row.log.is_empty());
    let entries: usize =
        row.log.sections.iter().map(|section| section.entries.len() + section.reservations.len()).sum();
    assert!((1..=bytes.len()).contains(&entries), "{entries} of {} bytes", bytes.len());
    for section in &row.log.sections {
        assert!(section.entries.is_sorted_by_key(|entry| entry.ts) && section.lifetime() >= section.trimmed);
        assert_eq!(Kind::new(section.kind.as_str()), Ok(section.kind));
        assert!(section.reservations.iter().all(|held| held.ts <= held.expires_at));
    }
    let expires = row.log.sections.iter().flat_map(|section| &section.reservations).map(|held| held.expires_at).max();
    assert_eq!(newest, row.log.newest().max(expires));
    let mut written = Vec::new();
    encode_log(&mut written, &row.log, row.may_cap);
    assert!(written.len() <= bytes.len(), "{bytes:?} {written:?}");
    assert_eq!(decode_log(&written), Ok(row));
}

/// A log made of the bytes: what is written is read again, also where the row is cut off or one bit of it falls over.
pub(crate) fn log_written(bytes: &[u8]) {
    let mut rest = bytes;
    let mut log = Log::default();
    let limit = usize::from(take_byte(&mut rest)) + 1;
    while !rest.is_empty() {
        let choice = take_byte(&mut rest);
        let kind = match choice & 3 {
            0 => Kind::IMPRESSION,
            1 => Kind::CLICK,
            2 => Kind::CONVERSION,
            _ => Kind::new(&format!("k{}", choice >> 4)).unwrap_or_default(),
        };
        let ts = take_varint(&mut rest).unwrap_or(0) >> 1;
        let hash = u64::from(take_byte(&mut rest)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if choice & 0b1100 == 0b1100 {
            let keys = (0..choice >> 6).map(|number| format!("c:{number}{hash}").into()).collect();
            log.add_reservation(
                kind,
                Reservation { ts: TsMs(ts), expires_at: TsMs(ts.saturating_add(hash >> 40)), hash, keys },
            );
        } else {
            log.insert(kind, Entry { ts: TsMs(ts), hash }, limit);
        }
    }
    if log.is_empty() {
        return;
    }
    let mut written = Vec::new();
    encode_log(&mut written, &log, limit & 1 == 1);
    let read = decode_log(&written);
    assert_eq!(read.as_ref().map(|row| (&row.log, row.may_cap)), Ok((&log, limit & 1 == 1)), "{written:?}");
    let at = limit * 7 % written.len();
    self::log(&written[..at]);
    written[at] ^= 1 << (limit & 7);
    self::log(&written);
}

fn take_byte(bytes: &mut &[u8]) -> u8 {
    let Some((&byte, rest)) = bytes.split_first() else { return 0 };
    *bytes = rest;
    byte
}

/// A row of the journal, and the rows of `logs` in it.
pub(crate) fn journal(bytes: &[u8]) {
    let (mut written, mut count, mut is_whole) = (Vec::new(), 0, true);
    for row in journal::rows(bytes) {
        let Ok((key, value)) = row else {
            is_whole = false;
            continue;
        };
        assert!(is_whole, "nothing is read after damage");
        assert!(!key.is_empty());
        log(value);
        row_key(key);
        journal::put_row(&mut written, key, value);
        count += 1;
    }
    assert!(2 * count <= bytes.len() && written.len() <= bytes.len());
    let again: Result<Vec<_>, _> = journal::rows(&written).collect();
    assert!(again.is_ok_and(|again| again.len() == count));
}

/// The key of a row: taken apart, and put together anew.
pub(crate) fn row_key(bytes: &[u8]) {
    let parsed = RowKey::parse(bytes);
    let mut key = String::new();
    let has_key = RowKey::key_into(bytes, &mut key).is_some();
    assert!(has_key || parsed.is_none(), "{bytes:?}");
    assert_eq!(RowKey::key_of(bytes).as_deref(), parsed.as_ref().map(|(_, key)| &**key));
    // Eight bytes compare as the whole does.
    let other: Vec<u8> = bytes.iter().rev().copied().collect();
    if RowKey::leading(bytes) != RowKey::leading(&other) {
        assert_eq!(RowKey::leading(bytes) < RowKey::leading(&other), bytes < &other[..]);
    }
    assert!(bytes.starts_with(user_prefix(bytes)));
    let beside = RowKey::sibling(bytes, "c:1");
    assert!(beside.starts_with(user_prefix(bytes)));
    let Some((user, parsed_key)) = parsed else { return };
    assert_eq!((RowKey::user_of(bytes), &*key), (Some(user), &*parsed_key));
    assert_eq!(RowKey::parse(&beside), Some((user, "c:1".into())));
    let (Ok(id), Ok(cap_key)) = (UserId::new(user), CapKey::new(&*parsed_key)) else { return };
    let whole = RowKey::new(&id, &cap_key);
    assert_eq!(RowKey::parse(whole.as_bytes()), Some((user, parsed_key.clone())));
    assert!(UserPrefix::new(user).rows().contains(&whole.as_bytes().to_vec()));
    assert!(ShardPrefix(ShardId(whole.as_bytes()[0])).rows().contains(&whole.as_bytes().to_vec()));
    let mut keys = RowKeys::default();
    keys.push(user, &parsed_key);
    keys.push_sibling(0, "c:1");
    assert_eq!(keys.get(0), whole.as_bytes());
    assert_eq!(keys.get(1), RowKey::sibling(whole.as_bytes(), "c:1"));
    if EventId::new(&*parsed_key).is_ok() {
        keys.push_id(user, &parsed_key);
        assert!(keys.get(2).starts_with(user_prefix(whole.as_bytes())));
    }
}

/// A row of `reservations`.
pub(crate) fn reservation(bytes: &[u8]) {
    let Some(row) = ReservationRow::decode(bytes) else { return };
    assert_eq!(kept_until(bytes), Some(row.kept_until));
    assert!(row.das.len() + row.answer.len() <= bytes.len());
    let mut written = Vec::new();
    row.encode(&mut written);
    assert!(written.len() <= bytes.len());
    assert_eq!(ReservationRow::decode(&written), Some(row));
}

/// Rows of `changes`, `caps`, `due` and `erased`, and the mark of the rules.
pub(crate) fn caps(bytes: &[u8]) {
    let key = ChangeKey { shard: ShardId(7), seq: 1 << 40 }.bytes();
    if let Ok(change) = changes::parse(ShardId(7), &key, bytes) {
        assert_eq!(change.seq, 1 << 40);
        let mut written = Vec::new();
        changes::encode_change(&mut written, change.at, (change.change, change.until), &change.row_key);
        assert_eq!(changes::parse(ShardId(7), &key, &written).as_ref(), Ok(&change));
        // Who tells of it takes it apart.
        assert!(change.user_and_key().is_none() || !change.row_key.is_empty());
    }
    if let Ok(seq) = changes::seq_of(bytes) {
        assert_eq!(ChangeKey { shard: ShardId(bytes[0]), seq }.bytes(), bytes);
    }
    if let Ok(row) = decode_cap(bytes) {
        assert!(row.due <= row.until);
        let mut written = Vec::new();
        encode_cap(&mut written, row);
        assert_eq!(decode_cap(&written), Ok(row));
    }
    if let Some(row) = due::parse(bytes) {
        let mut written = Vec::new();
        due::write_key(&mut written, row.due, &row.row_key);
        assert_eq!(written, bytes);
        assert!(bytes >= &InstantPrefix(ShardId(bytes[0]), row.due).first_key()[..]);
    }
    if let Some(until) = erased::erased_until(bytes) {
        let mut written = Vec::new();
        put_varint(&mut written, until.0);
        assert_eq!(erased::erased_until(&written), Some(until));
    }
    if let Some(mark) = RulesMark::decode(bytes) {
        assert_eq!(mark.encode(), bytes);
    }
}

/// The rows of a partition in `pulled`: by turns what follows the partition in a row's key, and its value.
pub(crate) fn pulled(bytes: &[u8]) {
    if let Some(frontier) = Frontier::decode(bytes) {
        let mut written = Vec::new();
        frontier.encode(&mut written);
        assert_eq!(Frontier::decode(&written), Some(frontier));
    }
    if let Some(taken) = decode_taken(bytes) {
        assert_eq!(decode_taken(&encode_taken(&taken)), Some(taken));
    }
    let (mut rest, mut rows, mut marks) = (bytes, Rows::default(), 0);
    while let (Some(key), Some(value)) = (take_bytes(&mut rest), take_bytes(&mut rest)) {
        if rows.add(key, key.into(), value).is_some() && key.first() == Some(&b'w') {
            marks = marks.max(take_varint(&mut &value[..]).unwrap_or(0));
        }
    }
    let base = rows.base.clone().unwrap_or_else(|| Box::new([0; SHARDS]));
    let folded = rows.fold(ShardSet::ALL);
    for (taken, base) in folded.taken.iter().zip(*base) {
        assert!((base..=base.max(marks)).contains(taken));
    }
    assert!(folded.early.len() + folded.aside.len() <= bytes.len());
}
