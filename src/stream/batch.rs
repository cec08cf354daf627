//! Changes of caps, written as JSON once for all who follow.

use super::position::Position;
use crate::api::CapChanged;
use crate::model::{CapChange, ShardId, TsMs};
use std::fmt::Write as _;

/// One change in a batch.
#[derive(Debug)]
struct Line {
    shard: ShardId,
    seq: u64,
    /// In the text: the key from `start`, then the JSON up to `end`.
    start: u32,
    key_len: u32,
    end: u32,
}

/// Changes in order for each shard.
#[derive(Debug, Default)]
pub(super) struct Batch {
    text: Vec<u8>,
    lines: Vec<Line>,
    /// Of these shards changes up to a sequence are gone, that were not sent.
    gaps: Vec<(ShardId, u64)>,
    /// When the first change was made.
    written_at: Option<TsMs>,
    scratch: String,
}

/// A change as it is read from a batch.
pub(super) struct Told<'a> {
    pub shard: ShardId,
    pub seq: u64,
    pub key: &'a str,
    pub json: &'a [u8],
}

/// The state of a cap.
pub(super) struct CapState {
    pub change: CapChange,
    pub until: Option<TsMs>,
    pub at: Option<TsMs>,
}

impl Batch {
    pub fn push(&mut self, shard: ShardId, seq: u64, (user, key): (&str, &str), state: &CapState) {
        let start = self.text.len();
        self.text.extend_from_slice(key.as_bytes());
        self.scratch.clear();
        // Writing to a text cannot fail, nor can serializing plain fields to memory.
        let _ = write!(self.scratch, "{}-{seq}", shard.0);
        let CapState { change, until, at } = *state;
        self.written_at = self.written_at.or(at);
        let told = CapChanged { user, key, change, capped_until: until, at, seq: &self.scratch };
        let _ = serde_json::to_writer(&mut self.text, &told);
        let (start, key_len, end) = (start as u32, key.len() as u32, self.text.len() as u32);
        self.lines.push(Line { shard, seq, start, key_len, end });
    }

    pub fn push_gap(&mut self, shard: ShardId, up_to: u64) {
        self.gaps.push((shard, up_to));
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.gaps.is_empty()
    }

    /// When the first change was made, if that is known.
    pub fn written_at(&self) -> Option<TsMs> {
        self.written_at
    }

    pub fn lines_len(&self) -> usize {
        self.lines.len()
    }

    /// Bytes of what is written, which bound the batch.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.text.capacity()
            + self.lines.capacity() * size_of::<Line>()
            + self.gaps.capacity() * size_of::<(ShardId, u64)>()
    }

    /// Gives back the room that it does not need.
    pub fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.lines.shrink_to_fit();
        self.scratch = String::new();
    }

    pub fn gaps(&self) -> &[(ShardId, u64)] {
        &self.gaps
    }

    /// Moves a position to where whoever has had the batch is.
    pub fn advance(&self, position: &mut Position) {
        for line in &self.lines {
            position[line.shard] = position[line.shard].max(line.seq);
        }
        for &(shard, up_to) in &self.gaps {
            position[shard] = position[shard].max(up_to);
        }
    }

    pub fn lines(&self) -> impl Iterator<Item = Told<'_>> {
        self.lines.iter().map(|line| {
            let (key, json) = self.text[line.start as usize..line.end as usize].split_at(line.key_len as usize);
            // It was put in as a text.
            let key = std::str::from_utf8(key).unwrap_or_default();
            Told { shard: line.shard, seq: line.seq, key, json }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_written_as_it_is_documented() {
        let mut batch = Batch::default();
        let state = CapState { change: CapChange::Capped, until: Some(TsMs(9)), at: Some(TsMs(8)) };
        batch.push(ShardId(240), 17, ("u\"1", "campaign:42"), &state);
        batch.push(ShardId(0), 1, ("u", "da:1"), &CapState { change: CapChange::Ended, until: None, at: None });
        let told: Vec<_> = batch.lines().collect();
        assert_eq!((told[0].shard, told[0].seq, told[0].key), (ShardId(240), 17, "campaign:42"));
        let text = |told: &Told<'_>| String::from_utf8(told.json.to_vec()).unwrap();
        assert_eq!(
            text(&told[0]),
            r#"{"user":"u\"1","key":"campaign:42","change":"capped","capped_until":9,"at":8,"seq":"240-17"}"#
        );
        assert_eq!(
            text(&told[1]),
            r#"{"user":"u","key":"da:1","change":"ended","capped_until":null,"at":null,"seq":"0-1"}"#
        );
    }
}
