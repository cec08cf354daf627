//! The cursor of a stream: where it resumes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 8 | hash of the store and its history |
//! | 8 | hash of what the reader follows |
//! | 2 | the shard at which the snapshot goes on, plus 1; 0 after it |
//! | 8 | the least sequence of the shards |
//! | 1 | bits of each of the 256 differences to it |
//! | .. | the differences, by shard |
//! | 4 | CRC-32C of all before |
//!
//! In URL-safe base64. The widest has 1,504 bytes, so 2,006 characters.

use super::position::Position;
use crate::model::{SHARDS, ShardId, ShardSet};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const VERSION: u8 = 1;
const HEAD: usize = 28;
const CHECK: usize = 4;
/// Sequences of shards that lie further apart than this (64 epochs) do not occur. One that did would resume too early,
/// where its changes are gone, and the reader would be reset.
const WIDTH_MAX: u32 = 46;

/// Where a stream resumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Which store and which history of it the sequences are of.
    pub store: u64,
    /// What the reader follows.
    pub filter: u64,
    /// The shard at which the snapshot goes on; `None`: it has ended.
    pub snapshot: Option<ShardId>,
    /// What was sent. It is not valid for shards from `snapshot` on.
    pub position: Position,
}

impl Cursor {
    /// Writes it. Of shards that are not in `valid` no sequence is kept.
    pub fn text(&self, valid: &ShardSet) -> String {
        let seqs: Vec<u64> = valid.iter().map(|shard| self.position[shard]).collect();
        let (least, most) = (seqs.iter().copied().min().unwrap_or(0), seqs.iter().copied().max().unwrap_or(0));
        let width = (64 - (most - least).leading_zeros()).min(WIDTH_MAX);
        let mut bytes = Vec::with_capacity(HEAD + SHARDS * width as usize / 8 + CHECK);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.store.to_be_bytes());
        bytes.extend_from_slice(&self.filter.to_be_bytes());
        bytes.extend_from_slice(&self.snapshot.map_or(0, |shard| u16::from(shard.0) + 1).to_be_bytes());
        bytes.extend_from_slice(&least.to_be_bytes());
        bytes.push(width as u8);
        let mut bits = BitWriter { bytes: &mut bytes, held: 0, count: 0 };
        for shard in ShardId::all() {
            let over = if valid.contains(shard) { self.position[shard] - least } else { 0 };
            bits.put(if over >> width == 0 { over } else { 0 }, width);
        }
        let check = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&check.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads one; `None` if the text is not a cursor.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (bytes, check) = bytes.split_last_chunk::<CHECK>()?;
        if crc32c::crc32c(bytes) != u32::from_be_bytes(*check) || *bytes.first()? != VERSION {
            return None;
        }
        let (head, packed) = bytes.split_at_checked(HEAD)?;
        let number = |at: usize| Some(u64::from_be_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let (store, filter, least) = (number(1)?, number(9)?, number(19)?);
        let snapshot = match u16::from_be_bytes([head[17], head[18]]) {
            0 => None,
            next => Some(ShardId(u8::try_from(next - 1).ok()?)),
        };
        let width = u32::from(head[27]);
        if width > WIDTH_MAX || packed.len() != SHARDS * width as usize / 8 {
            return None;
        }
        let mut position = Position::default();
        let mut bits = BitReader { bytes: packed, held: 0, count: 0 };
        for shard in ShardId::all() {
            position[shard] = least.checked_add(bits.take(width))?;
        }
        Some(Self { store, filter, snapshot, position })
    }
}

struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter<'_> {
    /// Appends the low `width` bits, the highest first. Fewer than 8 are held over, so there is room for them.
    fn put(&mut self, value: u64, width: u32) {
        self.held = self.held << width | value;
        self.count += width;
        while self.count >= 8 {
            self.count -= 8;
            self.bytes.push((self.held >> self.count) as u8);
        }
        self.held &= (1 << self.count) - 1;
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    held: u64,
    count: u32,
}

impl BitReader<'_> {
    fn take(&mut self, width: u32) -> u64 {
        while self.count < width {
            let Some((&byte, rest)) = self.bytes.split_first() else { break };
            self.bytes = rest;
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
        }
        self.count = self.count.saturating_sub(width);
        let value = self.held >> self.count;
        self.held &= (1 << self.count) - 1;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes of a cursor's text: what an event's id may have.
    const TEXT_MAX: usize = 2 << 10;

    fn cursor(seq: impl Fn(ShardId) -> u64) -> Cursor {
        Cursor { store: 7, filter: u64::MAX, snapshot: None, position: Position::of(seq) }
    }

    #[test]
    fn the_text_of_a_cursor_never_changes() {
        let some = Cursor { snapshot: Some(ShardId(255)), ..cursor(|shard| (1 << 40) + u64::from(shard.0 == 3)) };
        let text = some.text(&ShardSet::ALL);
        let expected = "AQAAAAAAAAAH__________8BAAAAAQAAAAAAARAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-jxB7g";
        assert_eq!(text, expected);
        assert_eq!(Cursor::parse(&text), Some(some));
    }

    #[test]
    fn a_cursor_is_small_however_much_has_changed() {
        // Each shard in another epoch, after more changes than there ever are.
        let wide = cursor(|shard| (u64::from(shard.0) % 64) << 40 | ((1 << 40) - 1));
        let text = wide.text(&ShardSet::ALL);
        assert!(text.len() <= TEXT_MAX, "{}", text.len());
        assert_eq!(Cursor::parse(&text), Some(wide));
        assert!(cursor(|_| 5 << 40).text(&ShardSet::ALL).len() < 50);
        // What cannot be told resumes earlier, never later.
        let beyond = cursor(|shard| if shard.0 == 1 { 1 << 50 } else { 3 });
        let read = Cursor::parse(&beyond.text(&ShardSet::ALL)).unwrap();
        assert_eq!((read.position[ShardId(0)], read.position[ShardId(1)]), (3, 3));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let text = cursor(|shard| u64::from(shard.0)).text(&ShardSet::ALL);
        for wrong in ["", "x", "AQ", &text[..text.len() - 1], &format!("{text}AAAA"), &text.replacen('A', "B", 1)] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(
            seqs in prop::collection::vec(0u64..1 << 41, SHARDS),
            narrow in 0u32..42,
            snapshot in prop::option::of(0u8..=255),
        ) {
            let written = Cursor { snapshot: snapshot.map(ShardId), ..cursor(|shard| seqs[shard.index()] >> narrow) };
            let text = written.text(&ShardSet::ALL);
            prop_assert!(text.len() <= TEXT_MAX);
            prop_assert_eq!(Cursor::parse(&text), Some(written));
        }

        #[test]
        fn any_text_is_a_cursor_or_none(text in "[A-Za-z0-9_-]{0,100}") {
            prop_assert_eq!(Cursor::parse(&text), None);
        }
    }
}
