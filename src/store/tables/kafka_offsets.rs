//! Kafka offsets, in the table `pulled`: how far each partition of a topic was taken.
//!
//! ```text
//! row       key: topic, 0, partition (u32 BE), then                value
//! base      b                                                      256 varints: by shard, the offset to take next
//! mark      w, number of writers (u16 BE), writer (u16 BE)         varint: the offset to take next
//! frontier  f                                                      see `Frontier`
//! reset     g                                                      varints: `resets`, and `begun` where it is another; none is never
//! early     e                                                      varints: see `PulledPartition::early`
//! aside     s, offset (u64 BE)                                     the code: see `PulledPartition::aside`
//! landmarks h                                                      see `PulledPartition::landmarks`; each 8 + 8 + 8 LE
//! ```
//!
//! Beside them, under `0, topic` (no topic's name begins with a zero byte), stands up to where the changes of caps were
//! sent to an output topic: 256 varints, by shard the last sequence.
//!
//! A mark speaks for the shards whose number leaves the writer's when divided by the number of writers, and only where
//! it is above their base: it is written with the events that it stands for, in one write. Marks of an earlier run,
//! which may have had another number of writers, are folded into the base before the next run takes anything.

use crate::model::{SHARDS, ShardSet};
use crate::store::codec::{put_varint, take_varint};
use crate::store::db::{Db, KeyRange};
use crate::store::error::StoreError;
use crate::store::table::Table;
use crate::store::tables::record_check::{RecordCheck, decode_landmarks, encode_landmarks};
use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const BASE: u8 = b'b';
const MARK: u8 = b'w';
const FRONTIER: u8 = b'f';
const RESET: u8 = b'g';
const EARLY: u8 = b'e';
const ASIDE: u8 = b's';
const LANDMARKS: u8 = b'h';

/// By shard, the offset from which on nothing of a partition is taken yet.
pub type Taken = [u64; SHARDS];

/// Where reading of a partition resumes.
///
/// Its row is a varint of `next`, and if there is a record before: a varint of its offset, its time (i64 LE) and its
/// hash (u64 LE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frontier {
    /// Everything below this offset is durable, or dead-lettered.
    pub next: u64,
    /// The last record below it that was read.
    pub last: Option<RecordCheck>,
}

impl Frontier {
    pub(in crate::store) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.next);
        if let Some(last) = self.last {
            put_varint(out, last.offset);
            out.extend_from_slice(&last.ts.to_le_bytes());
            out.extend_from_slice(&last.hash.to_le_bytes());
        }
    }

    pub(in crate::store) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let next = take_varint(&mut bytes)?;
        if bytes.is_empty() {
            return Some(Self { next, last: None });
        }
        let offset = take_varint(&mut bytes)?;
        let (ts, hash) = bytes.split_first_chunk()?;
        let hash: &[u8; 8] = hash.try_into().ok()?;
        let last = RecordCheck { offset, ts: i64::from_le_bytes(*ts), hash: u64::from_le_bytes(*hash) };
        Some(Self { next, last: Some(last) })
    }
}

/// The stored state of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledPartition {
    /// Where reading resumes; `None` if the partition was never read.
    pub frontier: Option<Frontier>,
    /// How far the writers took it, by shard.
    pub taken: Box<Taken>,
    /// How often the topic was made anew and the partition begun again.
    pub resets: u64,
    /// How often it was begun again at all, also after a landmark of the same topic.
    pub begun: u64,
    /// Offsets of records that lay ahead of the clock and whose dead letters may not have arrived. Once their time has
    /// come, they must not be taken for counted records.
    pub early: BTreeSet<u64>,
    /// Offsets of records that a writer did not count, with the reason, and whose dead letters may not have arrived.
    /// The writer's mark covers them.
    pub aside: BTreeMap<u64, String>,
    /// Records that were read, by offset: they tell a topic whose end was cut off from one that was made anew.
    pub landmarks: Vec<RecordCheck>,
}

impl Default for PulledPartition {
    fn default() -> Self {
        Self {
            frontier: None,
            taken: Box::new([0; SHARDS]),
            resets: 0,
            begun: 0,
            early: BTreeSet::new(),
            aside: BTreeMap::new(),
            landmarks: Vec::new(),
        }
    }
}

/// How far a partition of a topic is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontierAt {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Everything below this offset is durable, or dead-lettered.
    #[serde(rename = "offset")]
    pub next: u64,
}

/// The key of a writer's mark.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MarkKey(Vec<u8>);

impl MarkKey {
    /// The mark of one writer, among this many writers.
    pub fn new(topic: &str, partition: u32, writers: u16, writer: u16) -> Self {
        let mut key = row(topic, partition, MARK);
        key.extend_from_slice(&writers.to_be_bytes());
        key.extend_from_slice(&writer.to_be_bytes());
        Self(key)
    }

    /// The key of a record of the same partition that was set aside.
    fn aside(&self, offset: u64) -> Vec<u8> {
        // A mark ends with its tag and two numbers.
        let mut key = self.0[..self.0.len() - 5].to_vec();
        key.push(ASIDE);
        key.extend_from_slice(&offset.to_be_bytes());
        key
    }
}

/// The prefix of every row of a topic.
struct TopicPrefix(Vec<u8>);

impl TopicPrefix {
    fn new(topic: &str) -> Self {
        let mut prefix = Vec::with_capacity(topic.len() + 10);
        prefix.extend_from_slice(topic.as_bytes());
        prefix.push(0);
        Self(prefix)
    }

    fn rows(&self) -> KeyRange {
        let mut end = self.0.clone();
        end.pop();
        end.push(1);
        self.0.clone()..end
    }
}

fn row(topic: &str, partition: u32, tag: u8) -> Vec<u8> {
    let TopicPrefix(mut key) = TopicPrefix::new(topic);
    key.extend_from_slice(&partition.to_be_bytes());
    key.push(tag);
    key
}

fn output_row(topic: &str) -> Vec<u8> {
    [&[0], topic.as_bytes()].concat()
}

pub(in crate::store) fn encode_taken(taken: &Taken) -> Vec<u8> {
    let mut out = Vec::with_capacity(SHARDS * 4);
    taken.iter().for_each(|&next| put_varint(&mut out, next));
    out
}

pub(in crate::store) fn decode_taken(mut bytes: &[u8]) -> Option<Box<Taken>> {
    let mut taken = Box::new([0; SHARDS]);
    for next in taken.iter_mut() {
        *next = take_varint(&mut bytes)?;
    }
    bytes.is_empty().then_some(taken)
}

const CORRUPT: StoreError = StoreError::Corrupt { table: "pulled", what: "a row ends too soon or too late" };

/// The rows of one partition.
#[derive(Default)]
pub(in crate::store) struct Rows {
    frontier: Option<Frontier>,
    pub(in crate::store) base: Option<Box<Taken>>,
    resets: u64,
    begun: u64,
    early: BTreeSet<u64>,
    aside: BTreeMap<u64, String>,
    landmarks: Vec<RecordCheck>,
    /// Number of writers, writer, next offset.
    marks: Vec<(u16, u16, u64)>,
    /// The keys of the marks.
    keys: Vec<Box<[u8]>>,
}

impl Rows {
    pub(in crate::store) fn add(&mut self, rest: &[u8], key: Box<[u8]>, value: &[u8]) -> Option<()> {
        match *rest {
            [BASE] => self.base = Some(decode_taken(value)?),
            [FRONTIER] => self.frontier = Some(Frontier::decode(value)?),
            [EARLY] => {
                let mut value = value;
                while !value.is_empty() {
                    self.early.insert(take_varint(&mut value)?);
                }
            }
            [RESET] => {
                let mut value = value;
                self.resets = take_varint(&mut value)?;
                self.begun = if value.is_empty() { self.resets } else { take_varint(&mut value)? };
            }
            [LANDMARKS] => self.landmarks = decode_landmarks(value)?,
            [ASIDE, ref offset @ ..] => {
                let offset = u64::from_be_bytes(offset.try_into().ok()?);
                self.aside.insert(offset, String::from_utf8(value.to_vec()).ok()?);
            }
            [MARK, a, b, c, d] => {
                let mut value = value;
                let (writers, writer) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                self.marks.push((writers.max(1), writer, take_varint(&mut value)?));
                self.keys.push(key);
            }
            _ => return None,
        }
        Some(())
    }

    pub(in crate::store) fn fold(self, shards: ShardSet) -> PulledPartition {
        let mut taken = self.base.unwrap_or_else(|| Box::new([0; SHARDS]));
        for (position, shard) in shards.iter().enumerate() {
            let mine = self.marks.iter().filter(|&&(writers, writer, _)| position as u16 % writers == writer);
            let next = mine.map(|&(_, _, next)| next).max().unwrap_or(0);
            taken[shard.index()] = taken[shard.index()].max(next);
        }
        let Self { frontier, resets, begun, early, aside, landmarks, .. } = self;
        PulledPartition { frontier, taken, resets, begun, early, aside, landmarks }
    }
}

/// The table.
pub struct KafkaOffsets {
    db: Arc<Db>,
    /// Those that the store has, and its writers share.
    shards: ShardSet,
}

impl KafkaOffsets {
    pub(in crate::store) fn new(db: Arc<Db>, shards: ShardSet) -> Self {
        Self { db, shards }
    }

    /// The state of every partition of a topic. Folds the marks of the last run into the bases, in one atomic write;
    /// nothing may be taken of the topic meanwhile. Blocks on disk.
    pub fn partitions(&self, topic: &str) -> Result<BTreeMap<u32, PulledPartition>, StoreError> {
        let cf = self.db.cf(Table::KafkaOffsets);
        let prefix = TopicPrefix::new(topic);
        let mut partitions: BTreeMap<u32, Rows> = BTreeMap::new();
        for entry in self.db.rows(Table::KafkaOffsets, prefix.rows(), "reading how far a topic was taken") {
            let (key, value) = entry?;
            let (partition, rest) = key[prefix.0.len()..].split_first_chunk().ok_or(CORRUPT)?;
            let rows = partitions.entry(u32::from_be_bytes(*partition)).or_default();
            rows.add(rest, key.clone(), &value).ok_or(CORRUPT)?;
        }
        let mut batch = WriteBatch::default();
        let mut known = BTreeMap::new();
        for (partition, mut rows) in partitions {
            let keys = std::mem::take(&mut rows.keys);
            let folded = rows.fold(self.shards);
            if !keys.is_empty() {
                batch.put_cf(cf, row(topic, partition, BASE), encode_taken(&folded.taken));
                keys.iter().for_each(|key| batch.delete_cf(cf, key));
            }
            known.insert(partition, folded);
        }
        self.write(batch)?;
        Ok(known)
    }

    /// Where every partition of every topic is read from next. Blocks on disk.
    pub fn frontiers(&self) -> Result<Vec<FrontierAt>, StoreError> {
        let mut frontiers = Vec::new();
        // From 1 on: a row that begins with 0 is of an output topic.
        for entry in self.db.rows(Table::KafkaOffsets, vec![1]..vec![u8::MAX], "reading how far topics were taken") {
            let (key, value) = entry?;
            let topic_bytes = key.iter().position(|&byte| byte == 0).ok_or(CORRUPT)?;
            let (partition, rest) = key[topic_bytes + 1..].split_first_chunk().ok_or(CORRUPT)?;
            if rest != [FRONTIER] {
                continue;
            }
            let topic = std::str::from_utf8(&key[..topic_bytes]).map_err(|_| CORRUPT)?.to_owned();
            let next = Frontier::decode(&value).ok_or(CORRUPT)?.next;
            frontiers.push(FrontierAt { topic, partition: u32::from_be_bytes(*partition), next });
        }
        Ok(frontiers)
    }

    /// Stores frontiers. What they stand for is durable already: if this write is lost, an earlier frontier is right,
    /// too.
    pub fn put_frontiers<'a>(
        &self,
        topic: &str,
        frontiers: impl IntoIterator<Item = (u32, &'a Frontier)>,
    ) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for (partition, frontier) in frontiers {
            let mut value = Vec::with_capacity(28);
            frontier.encode(&mut value);
            batch.put_cf(self.db.cf(Table::KafkaOffsets), row(topic, partition, FRONTIER), value);
        }
        self.write(batch)
    }

    /// Stores which records of a partition lay ahead and are not known to be dead-lettered. Must come before any mark
    /// that covers them.
    pub fn put_early(&self, topic: &str, partition: u32, early: &BTreeSet<u64>) -> Result<(), StoreError> {
        let mut value = Vec::with_capacity(early.len() * 5);
        early.iter().for_each(|&offset| put_varint(&mut value, offset));
        let mut batch = WriteBatch::default();
        batch.put_cf(self.db.cf(Table::KafkaOffsets), row(topic, partition, EARLY), value);
        self.write(batch)
    }

    /// Stores the landmarks of a partition. They may be older than its frontier.
    pub fn put_landmarks(&self, topic: &str, partition: u32, landmarks: &[RecordCheck]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let key = row(topic, partition, LANDMARKS);
        batch.put_cf(self.db.cf(Table::KafkaOffsets), key, encode_landmarks(landmarks));
        self.write(batch)
    }

    /// Removes records set aside below an offset: their dead letters have arrived.
    pub fn forget_aside(&self, topic: &str, partition: u32, below: u64) -> Result<(), StoreError> {
        let prefix = row(topic, partition, ASIDE);
        let (start, end) = ([&prefix[..], &[0; 8]].concat(), [&prefix[..], &below.to_be_bytes()].concat());
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(self.db.cf(Table::KafkaOffsets), start, end);
        self.write(batch)
    }

    /// By shard, the last change that an output topic was sent; `None` if it was never sent any. Blocks on disk.
    pub fn output_seqs(&self, topic: &str) -> Result<Option<Box<Taken>>, StoreError> {
        let value = self.db.get(Table::KafkaOffsets, &output_row(topic), "reading how far an output topic was told")?;
        value.map(|value| decode_taken(&value).ok_or(CORRUPT)).transpose()
    }

    /// Stores, by shard, the last change that an output topic was sent.
    pub fn put_output_seqs(&self, topic: &str, seqs: &Taken) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.db.cf(Table::KafkaOffsets), output_row(topic), encode_taken(seqs));
        self.write(batch)
    }

    /// Forgets how far a partition was taken. Stores where to read it from instead, and how often its topic was made anew and
    /// it was begun again.
    pub fn reset(
        &self,
        topic: &str,
        partition: u32,
        frontier: &Frontier,
        (resets, begun): (u64, u64),
    ) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let mut value = Vec::new();
        frontier.encode(&mut value);
        let cf = self.db.cf(Table::KafkaOffsets);
        batch.delete_range_cf(cf, row(topic, partition, 0), row(topic, partition, u8::MAX));
        batch.put_cf(cf, row(topic, partition, FRONTIER), value);
        let mut value = Vec::new();
        put_varint(&mut value, resets);
        if begun != resets {
            put_varint(&mut value, begun);
        }
        batch.put_cf(cf, row(topic, partition, RESET), value);
        self.write(batch)
    }

    /// Moves a writer's mark: its shards have the partition's records up to `next`.
    pub(in crate::store) fn put_mark(&self, batch: &mut WriteBatch, mark: &MarkKey, next: u64) {
        let mut value = Vec::with_capacity(10);
        put_varint(&mut value, next);
        batch.put_cf(self.db.cf(Table::KafkaOffsets), &mark.0, value);
    }

    /// Records that a record below the mark was not counted, and why. Its dead letter must arrive.
    pub(in crate::store) fn put_aside(&self, batch: &mut WriteBatch, mark: &MarkKey, offset: u64, code: &str) {
        batch.put_cf(self.db.cf(Table::KafkaOffsets), mark.aside(offset), code);
    }

    fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        self.db.write(batch, "writing how far a topic was taken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreOptions};

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::open(&StoreOptions { data_dir: dir.path().to_owned(), ..StoreOptions::default() }).unwrap()
    }

    fn mark(store: &Store, partition: u32, writers: u16, writer: u16, next: u64) {
        let mut commit = store.begin_commit();
        commit.put_kafka_mark(&MarkKey::new("t", partition, writers, writer), next);
        commit.write().unwrap();
    }

    #[test]
    fn the_bytes_of_the_rows_never_change() {
        let mut out = Vec::new();
        let last = RecordCheck { offset: 299, ts: -1, hash: 0x0102 };
        Frontier { next: 300, last: Some(last) }.encode(&mut out);
        assert_eq!(out, b"\xac\x02\xab\x02\xff\xff\xff\xff\xff\xff\xff\xff\x02\x01\0\0\0\0\0\0");
        assert_eq!(Frontier::decode(&out), Some(Frontier { next: 300, last: Some(last) }));
        assert_eq!(Frontier::decode(b"\x05"), Some(Frontier { next: 5, last: None }));
        for end in [0, 1, 3, out.len() - 1] {
            assert_eq!(Frontier::decode(&out[..end]), None);
        }
        assert_eq!(MarkKey::new("t", 258, 3, 2).0, b"t\0\0\0\x01\x02w\0\x03\0\x02");
        assert_eq!(row("t", 1, FRONTIER), b"t\0\0\0\0\x01f");
        assert_eq!(MarkKey::new("t", 1, 3, 2).aside(258), b"t\0\0\0\0\x01s\0\0\0\0\0\0\x01\x02");
        let mut taken = [0; SHARDS];
        (taken[0], taken[255]) = (300, 1);
        let bytes = encode_taken(&taken);
        assert_eq!((bytes.len(), &bytes[..3], bytes[256]), (257, &b"\xac\x02\0"[..], 1));
        assert_eq!(decode_taken(&bytes).as_deref(), Some(&taken));
        assert_eq!(decode_taken(&bytes[..256]), None);
    }

    #[test]
    fn what_was_taken_stays_right_with_every_number_of_writers() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        mark(&store, 0, 2, 0, 10);
        mark(&store, 0, 2, 1, 20);
        store.kafka_offsets().put_frontiers("t", [(0, &Frontier { next: 7, last: None })]).unwrap();
        // A topic whose name has the same beginning.
        store.kafka_offsets().put_frontiers("tt", [(0, &Frontier { next: 1, last: None })]).unwrap();
        let known = store.kafka_offsets().partitions("t").unwrap();
        assert_eq!((known.len(), known[&0].frontier.unwrap().next), (1, 7));
        assert_eq!((known[&0].taken[4], known[&0].taken[5]), (10, 20));
        // The next run has three writers, and two of them have a mark; the third stays at the base.
        mark(&store, 0, 3, 0, 30);
        mark(&store, 0, 3, 1, 15);
        let known = store.kafka_offsets().partitions("t").unwrap();
        assert_eq!(known[&0].taken[..6], [30, 20, 10, 30, 15, 20]);
        // Folding again changes nothing.
        assert_eq!(store.kafka_offsets().partitions("t").unwrap(), known);
        store.kafka_offsets().put_early("t", 0, &BTreeSet::from([9, 300])).unwrap();
        assert_eq!(store.kafka_offsets().partitions("t").unwrap()[&0].early, BTreeSet::from([9, 300]));
        let mut commit = store.begin_commit();
        for (offset, code) in [(7, "a"), (256, "b")] {
            commit.put_kafka_aside(&MarkKey::new("t", 0, 3, 2), offset, code);
        }
        commit.write().unwrap();
        assert_eq!(
            store.kafka_offsets().partitions("t").unwrap()[&0].aside,
            BTreeMap::from([(7, "a".to_owned()), (256, "b".to_owned())])
        );
        store.kafka_offsets().forget_aside("t", 0, 256).unwrap();
        assert_eq!(store.kafka_offsets().partitions("t").unwrap()[&0].aside, BTreeMap::from([(256, "b".to_owned())]));
        store.kafka_offsets().put_landmarks("t", 0, &[RecordCheck { offset: 1, ts: 2, hash: 3 }]).unwrap();
        assert_eq!(store.kafka_offsets().partitions("t").unwrap()[&0].landmarks.len(), 1);
        store.kafka_offsets().reset("t", 0, &Frontier::default(), (3, 4)).unwrap();
        let known = store.kafka_offsets().partitions("t").unwrap();
        let reset =
            PulledPartition { frontier: Some(Frontier::default()), resets: 3, begun: 4, ..PulledPartition::default() };
        assert_eq!(known[&0], reset);
        assert_eq!(store.kafka_offsets().partitions("tt").unwrap()[&0].frontier.unwrap().next, 1);
    }
}
