//! The bytes of a log.
//!
//! A row of `logs` is its sections one after another; a section is
//!
//! ```text
//! tag      u8       bits 0-1: 0 impression, 1 click, 2 conversion, 3 a name follows
//!                   bit 2: a number of entries follows (else there is one)
//!                   bit 3: a number of trimmed entries follows (else there are none)
//!                   bit 4: in the first section, the key may have a row in `caps`
//!                   bit 5: reservations follow the entries (since format 2)
//!                   bits 6-7: zero
//! name     u8, ..   length and bytes, where the tag says so
//! entries  varint   where the tag says so
//! trimmed  varint   where the tag says so
//! entry    varint   (time since the entry before, the first since 1970, in ms) * 2 + (1 if a hash follows)
//!          u64 LE   the hash, where there is one
//! held     varint   how many reservations, where the tag says so; for each
//!          varint   when it was made, in ms since 1970
//!          varint   for how long, in ms
//!          u64 LE   the hash
//!          varint   how many other keys were reserved with it; for each: varint length and bytes
//! ```
//!
//! A section with reservations may have no entries: then the number of entries is there, and zero.
//!
//! Varints are LEB128. An ad seen once without an event id is 7 bytes, until 2039.

use super::error::StoreError;
use crate::model::{CapBegan, CapRow, Entry, Kind, Log, Reservation, Section, TsMs};
use smallvec::SmallVec;

const KIND_MASK: u8 = 0b11;
const KIND_NAMED: u8 = 3;
const COUNTED: u8 = 1 << 2;
const TRIMMED: u8 = 1 << 3;
const MAY_CAP: u8 = 1 << 4;
const RESERVED: u8 = 1 << 5;
const KNOWN_BITS: u8 = 0b11_1111;

/// A row with more trimmed events than could have been counted is damaged. So no lifetime count overflows.
const TRIMMED_MAX: u64 = i64::MAX as u64;

/// A log as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRow {
    /// The log.
    pub log: Log,
    /// Whether `caps` may have a row for this key. If false, it has none.
    pub may_cap: bool,
}

const CORRUPT_LOG: fn(&'static str) -> StoreError = |what| StoreError::Corrupt { table: "logs", what };

pub(in crate::store) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(in crate::store) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

/// Appends the bytes of a log, which must not be empty.
pub fn encode_log(out: &mut Vec<u8>, log: &Log, may_cap: bool) {
    for (i, section) in log.sections.iter().enumerate() {
        let known = match section.kind {
            Kind::IMPRESSION => 0,
            Kind::CLICK => 1,
            Kind::CONVERSION => 2,
            _ => KIND_NAMED,
        };
        let mut tag = known;
        tag |= if section.entries.len() != 1 { COUNTED } else { 0 };
        tag |= if section.trimmed != 0 { TRIMMED } else { 0 };
        tag |= if i == 0 && may_cap { MAY_CAP } else { 0 };
        tag |= if section.reservations.is_empty() { 0 } else { RESERVED };
        out.push(tag);
        if known == KIND_NAMED {
            let name = section.kind.as_str().as_bytes();
            out.push(name.len() as u8);
            out.extend_from_slice(name);
        }
        if tag & COUNTED != 0 {
            put_varint(out, section.entries.len() as u64);
        }
        if tag & TRIMMED != 0 {
            put_varint(out, section.trimmed);
        }
        let mut before = 0;
        for entry in &section.entries {
            let hashed = entry.hash != 0;
            put_varint(out, ((entry.ts.0 - before) << 1) | u64::from(hashed));
            if hashed {
                out.extend_from_slice(&entry.hash.to_le_bytes());
            }
            before = entry.ts.0;
        }
        if !section.reservations.is_empty() {
            encode_reservations(out, &section.reservations);
        }
    }
}

fn encode_reservations(out: &mut Vec<u8>, held: &[Reservation]) {
    put_varint(out, held.len() as u64);
    for held in held {
        put_varint(out, held.ts.0);
        put_varint(out, held.expires_at.0.saturating_sub(held.ts.0));
        out.extend_from_slice(&held.hash.to_le_bytes());
        put_varint(out, held.keys.len() as u64);
        for key in &held.keys {
            put_bytes(out, key.as_bytes());
        }
    }
}

fn decode_reservations(bytes: &mut &[u8]) -> Option<Vec<Reservation>> {
    let count = usize::try_from(take_varint(bytes)?).ok().filter(|&count| count > 0 && count <= bytes.len())?;
    (0..count).map(|_| decode_reservation(bytes)).collect()
}

fn decode_reservation(bytes: &mut &[u8]) -> Option<Reservation> {
    let ts = take_varint(bytes)?;
    let expires_at = TsMs(ts.checked_add(take_varint(bytes)?)?);
    let hash = u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?);
    let keys = usize::try_from(take_varint(bytes)?).ok().filter(|&keys| keys <= bytes.len())?;
    let keys = (0..keys).map(|_| take_text(bytes).map(Into::into)).collect::<Option<_>>()?;
    Some(Reservation { ts: TsMs(ts), expires_at, hash, keys })
}

/// Reads a text after its length.
pub(in crate::store) fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_bytes(bytes)?).ok()
}

/// Writes bytes after their length.
pub(in crate::store) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(in crate::store) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(bytes)?).ok()?;
    take(bytes, len)
}

/// Decodes a log.
pub fn decode_log(bytes: &[u8]) -> Result<LogRow, StoreError> {
    let mut row = LogRow::default();
    let mut rest = bytes;
    while let Some(&tag) = rest.first() {
        if row.log.sections.is_empty() {
            row.may_cap = tag & MAY_CAP != 0;
        }
        row.log.sections.push(decode_section(&mut rest).ok_or_else(|| CORRUPT_LOG("a section ends too soon"))?);
    }
    if row.log.is_empty() {
        return Err(CORRUPT_LOG("it is empty"));
    }
    if row.log.sections.len() > 1 && has_kind_twice(&row.log) {
        return Err(CORRUPT_LOG("it has two sections of one kind"));
    }
    Ok(row)
}

/// Whether two sections have the same kind; the second would never be found.
fn has_kind_twice(log: &Log) -> bool {
    let mut kinds: SmallVec<[Kind; 8]> = log.sections.iter().map(|section| section.kind).collect();
    kinds.sort_unstable();
    kinds.windows(2).any(|pair| pair[0] == pair[1])
}

fn decode_section(bytes: &mut &[u8]) -> Option<Section> {
    let tag = take(bytes, 1)?[0];
    if tag & !KNOWN_BITS != 0 {
        return None;
    }
    let kind = match tag & KIND_MASK {
        0 => Kind::IMPRESSION,
        1 => Kind::CLICK,
        2 => Kind::CONVERSION,
        _ => {
            let len = usize::from(take(bytes, 1)?[0]);
            Kind::new(std::str::from_utf8(take(bytes, len)?).ok()?).ok()?
        }
    };
    let count = if tag & COUNTED != 0 { usize::try_from(take_varint(bytes)?).ok()? } else { 1 };
    let trimmed = if tag & TRIMMED != 0 { take_varint(bytes)? } else { 0 };
    // An entry has at least one byte. A larger count is damage, and must not reserve memory.
    if (count == 0 && tag & RESERVED == 0) || count > bytes.len() || trimmed > TRIMMED_MAX {
        return None;
    }
    let mut entries = SmallVec::with_capacity(count);
    let mut ts = 0u64;
    for _ in 0..count {
        let packed = take_varint(bytes)?;
        ts = ts.checked_add(packed >> 1)?;
        let hash = if packed & 1 == 1 { u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?) } else { 0 };
        entries.push(Entry { ts: TsMs(ts), hash });
    }
    let reservations = if tag & RESERVED != 0 { decode_reservations(bytes)? } else { Vec::new() };
    Some(Section { kind, trimmed, entries, reservations })
}

/// Decodes only when the newest event was, or the last reservation ends. For the compaction filter.
pub(in crate::store) fn newest_of_log(mut bytes: &[u8]) -> Option<TsMs> {
    let mut newest = None;
    while !bytes.is_empty() {
        let section = decode_section(&mut bytes)?;
        newest = newest.max(section.entries.last().map(|entry| entry.ts));
        newest = newest.max(section.reservations.iter().map(|held| held.expires_at).max());
    }
    newest
}

/// Encodes a row of `caps`: when the cap ends, and how much sooner the timer fires.
pub(in crate::store) fn encode_cap(out: &mut Vec<u8>, row: CapRow) {
    put_varint(out, row.until.0);
    put_varint(out, row.until.0.saturating_sub(row.due.0));
    // Added later: rows of earlier versions end here.
    if let Some(began) = row.began {
        put_varint(out, began.at.0);
        put_varint(out, began.seq << 1 | u64::from(began.by_rules));
    }
}

pub(in crate::store) fn decode_cap(mut bytes: &[u8]) -> Result<CapRow, StoreError> {
    let corrupt = || StoreError::Corrupt { table: "caps", what: "it ends too soon" };
    let until = take_varint(&mut bytes).ok_or_else(corrupt)?;
    let sooner = take_varint(&mut bytes).ok_or_else(corrupt)?;
    let due = TsMs(until.checked_sub(sooner).ok_or_else(corrupt)?);
    let began = match bytes {
        [] => None,
        _ => {
            let at = TsMs(take_varint(&mut bytes).ok_or_else(corrupt)?);
            let seq = take_varint(&mut bytes).ok_or_else(corrupt)?;
            Some(CapBegan { at, seq: seq >> 1, by_rules: seq & 1 == 1 })
        }
    };
    Ok(CapRow { until: TsMs(until), due, began })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MAX_KINDS, MAX_LOG_EVENTS, MAX_RESERVATION_BYTES, MAX_RESERVATIONS, MAX_ROW_BYTES};
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A kind, how many were trimmed, and (time, hash) of each entry.
    type Part<'a> = (Kind, u64, &'a [(u64, u64)]);

    fn log(parts: &[Part<'_>]) -> Log {
        let section = |&(kind, trimmed, entries): &Part<'_>| Section {
            kind,
            trimmed,
            entries: entries.iter().map(|&(ts, hash)| Entry { ts: TsMs(ts), hash }).collect(),
            reservations: Vec::new(),
        };
        Log { sections: parts.iter().map(section).collect() }
    }

    /// Once a format is out these bytes must never change: a new format gets a new case beside them.
    #[test]
    fn the_bytes_of_a_log_never_change() {
        let view = Kind::new("view").unwrap();
        let cases: [(Log, bool, &str); 4] = [
            (log(&[(Kind::IMPRESSION, 0, &[(1_732_233_600_000, 0)])]), false, "0080f0d892ea64"),
            (
                log(&[(Kind::IMPRESSION, 0, &[(1_732_233_600_000, 0x0123_4567_89ab_cdef)])]),
                true,
                "1081f0d892ea64efcdab8967452301",
            ),
            (
                log(&[(Kind::CLICK, 300, &[(1_732_233_600_000, 0), (1_732_233_600_000, 0), (1_732_233_600_250, 1)])]),
                false,
                "0d03ac0280f0d892ea6400f5030100000000000000",
            ),
            (
                log(&[(view, 0, &[(100_000_000_000, 0)]), (Kind::CONVERSION, 0, &[(100_000_000_001, 0)])]),
                true,
                "13047669657780a0b787e9050282a0b787e905",
            ),
        ];
        for (log, may_cap, bytes) in cases {
            let mut out = Vec::new();
            encode_log(&mut out, &log, may_cap);
            assert_eq!(hex(&out), bytes, "{log:?}");
            assert_eq!(decode_log(&out), Ok(LogRow { log, may_cap }));
        }
    }

    #[test]
    fn the_bytes_of_a_reservation_never_change() {
        let mut log = log(&[(Kind::CLICK, 0, &[(1_732_233_600_000, 0)])]);
        let held = |hash, keys: &[&str]| Reservation {
            ts: TsMs(1_732_233_600_000),
            expires_at: TsMs(1_732_233_660_000),
            hash,
            keys: keys.iter().map(|&key| key.into()).collect(),
        };
        log.add_reservation(Kind::IMPRESSION, held(0x0123_4567_89ab_cdef, &["c:1", "a:22"]));
        log.add_reservation(Kind::CLICK, held(1, &[]));
        let mut out = Vec::new();
        encode_log(&mut out, &log, true);
        let click = "3180f0d892ea640180b8ac89b532e0d403010000000000000000";
        let impression = "24000180b8ac89b532e0d403efcdab89674523010203633a3104613a3232";
        assert_eq!(hex(&out), format!("{click}{impression}"));
        assert_eq!(newest_of_log(&out), Some(TsMs(1_732_233_660_000)));
        assert_eq!(decode_log(&out), Ok(LogRow { log, may_cap: true }));
    }

    #[test]
    fn the_fullest_log_there_can_be_is_less_than_a_row_may_be() {
        let kind = |n: usize| Kind::new(&format!("a{n:031}")).unwrap();
        let mut log = Log::default();
        for kind in (0..MAX_KINDS).map(kind) {
            let events = MAX_LOG_EVENTS / MAX_KINDS;
            let apart = 100_000_000_000_000 / events as u64;
            let entries = (1..=events as u64).map(|n| Entry { ts: TsMs(n * apart), hash: u64::MAX });
            log.sections.push(Section {
                kind,
                trimmed: TRIMMED_MAX,
                entries: entries.collect(),
                reservations: Vec::new(),
            });
        }
        let key: Box<str> = "k".repeat(289).into();
        let keyed = MAX_RESERVATION_BYTES / Reservation::key_bytes(std::iter::once(&*key));
        for n in 0..MAX_RESERVATIONS {
            let keys = if n < keyed { Box::from([key.clone()]) } else { Box::default() };
            let ts = TsMs(100_000_000_000_000 - 3_600_000);
            log.add_reservation(
                kind(n % MAX_KINDS),
                Reservation { ts, expires_at: TsMs(ts.0 + 3_600_000), hash: u64::MAX, keys },
            );
        }
        let mut out = Vec::new();
        encode_log(&mut out, &log, true);
        assert!(out.len() < MAX_ROW_BYTES && out.len() > MAX_ROW_BYTES * 9 / 10, "{}", out.len());
        assert_eq!(decode_log(&out).unwrap().log, log);
    }

    #[test]
    fn the_bytes_of_a_cap_never_change() {
        let old = CapRow { until: TsMs(1_732_665_600_000), due: TsMs(1_732_665_599_000), began: None };
        let began = |by_rules| CapBegan { at: TsMs(1_732_233_600_000), seq: 300, by_rules };
        let new = |by_rules| CapRow { began: Some(began(by_rules)), ..old };
        for (row, expected) in [
            (old, "80d0abd7b632e807"),
            (new(false), "80d0abd7b632e80780b8ac89b532d804"),
            (new(true), "80d0abd7b632e80780b8ac89b532d904"),
        ] {
            let mut out = Vec::new();
            encode_cap(&mut out, row);
            assert_eq!(hex(&out), expected);
            assert_eq!(decode_cap(&out), Ok(row));
        }
        assert!(decode_cap(&[0x80, 0x01, 0x00, 0x05]).is_err(), "it ends too soon");
    }

    proptest! {
        #[test]
        fn a_log_survives_its_encoding(
            parts in prop::collection::vec(
                (
                    "[a-z][a-z0-9_]{0,31}",
                    0u64..1 << 40,
                    prop::collection::vec((0u64..1 << 47, any::<u64>()), 0..300),
                    prop::collection::vec(
                        (0u64..1 << 40, 0u64..3_600_001, any::<u64>(), prop::collection::vec("[a-zé:]{3,9}", 0..3)),
                        0..4,
                    ),
                ),
                1..4,
            ),
            may_cap: bool,
        ) {
            let mut log = Log::default();
            for (kind, trimmed, mut entries, held) in parts {
                let kind = Kind::new(&kind).unwrap();
                if log.section(kind).is_none() && !(entries.is_empty() && held.is_empty()) {
                    entries.sort();
                    let entries = entries.into_iter().map(|(ts, hash)| Entry { ts: TsMs(ts), hash }).collect();
                    let held = held.into_iter().map(|(ts, ttl, hash, keys)| Reservation {
                        ts: TsMs(ts),
                        expires_at: TsMs(ts + ttl),
                        hash,
                        keys: keys.into_iter().map(String::into_boxed_str).collect(),
                    });
                    log.sections.push(Section { kind, trimmed, entries, reservations: held.collect() });
                }
            }
            prop_assume!(!log.is_empty());
            let mut out = Vec::new();
            encode_log(&mut out, &log, may_cap);
            let held = log.sections.iter().flat_map(|section| &section.reservations).map(|held| held.expires_at).max();
            prop_assert_eq!(newest_of_log(&out), log.newest().max(held));
            prop_assert_eq!(decode_log(&out), Ok(LogRow { log, may_cap }));
        }

        #[test]
        fn damaged_bytes_are_an_error_and_never_a_panic(bytes: Vec<u8>) {
            let _ = decode_log(&bytes);
            let _ = newest_of_log(&bytes);
            let _ = decode_cap(&bytes);
        }
    }
}
