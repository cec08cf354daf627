//! Records of a partition that tell a topic whose end was cut off from one that was made anew. Both end before what was
//! read of them, or have other records there; but what comes before the cut is still the same.

use super::chunk::check_of;
use super::client::{Consumer, REQUEST_TIMEOUT, assign};
use crate::store::RecordCheck;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as ClientError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::types::RDKafkaErrorCode;
use std::time::Instant;

/// Records that were read, by offset: the first, and the denser the nearer to the last.
#[derive(Debug, Default)]
pub(super) struct Landmarks {
    records: Vec<RecordCheck>,
    pub is_stored: bool,
}

impl Landmarks {
    pub(super) fn new(records: Vec<RecordCheck>) -> Self {
        Self { records, is_stored: true }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn records(&self) -> &[RecordCheck] {
        &self.records
    }

    /// Adds a record that was read. Of those whose distances to it lie between the same powers of two, the first and the
    /// last stay.
    pub(super) fn add(&mut self, record: RecordCheck) {
        if self.records.last().is_some_and(|last| last.offset >= record.offset) {
            return;
        }
        self.is_stored = false;
        let scale = |older: &RecordCheck| (record.offset - older.offset).ilog2();
        let mut kept: Vec<RecordCheck> = Vec::with_capacity(self.records.len() + 1);
        for older in &self.records {
            if let [.., before, last] = &kept[..]
                && scale(before) == scale(last)
                && scale(last) == scale(older)
            {
                kept.pop();
            }
            kept.push(*older);
        }
        kept.push(record);
        self.records = kept;
    }

    /// Forgets what comes after an offset, or everything.
    pub(super) fn cut(&mut self, after: Option<u64>) {
        self.records.retain(|record| after.is_some_and(|after| record.offset <= after));
        self.is_stored = false;
    }

    /// The last of them that the topic still has. `None` if it has none: then it is another topic.
    pub(super) fn last_there(
        &self,
        asker: &Consumer,
        (topic, partition): (&str, u32),
    ) -> KafkaResult<Option<RecordCheck>> {
        let (low, end) = asker.fetch_watermarks(topic, partition as i32, REQUEST_TIMEOUT)?;
        let there = |record: &&RecordCheck| (low.max(0) as u64..end.max(0) as u64).contains(&record.offset);
        let mut last = None;
        for record in self.records.iter().rev().filter(there) {
            if read(asker, (topic, partition, record.offset))? == Some(*record) {
                last = Some(*record);
                break;
            }
        }
        assign(asker, topic, partition, None)?;
        Ok(last)
    }
}

/// The record at an offset, or the next after it; `None` at the end.
fn read(asker: &Consumer, (topic, partition, offset): (&str, u32, u64)) -> KafkaResult<Option<RecordCheck>> {
    assign(asker, topic, partition, Some(offset))?;
    let start = Instant::now();
    while start.elapsed() < REQUEST_TIMEOUT {
        match asker.poll(REQUEST_TIMEOUT) {
            Some(Ok(message)) if message.partition() as u32 == partition => return Ok(Some(check_of(&message))),
            Some(Err(ClientError::PartitionEOF(number))) if number as u32 == partition => return Ok(None),
            Some(Err(ClientError::PartitionEOF(_)) | Ok(_)) | None => {}
            Some(Err(error)) => return Err(error),
        }
    }
    Err(ClientError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_record_stays_and_the_others_are_denser_near_the_last() {
        let mut landmarks = Landmarks::default();
        for offset in 5..100_000 {
            landmarks.add(RecordCheck { offset, ts: 0, hash: offset });
        }
        let offsets: Vec<_> = landmarks.records().iter().map(|record| record.offset).collect();
        assert_eq!((offsets[0], offsets[offsets.len() - 1]), (5, 99_999));
        assert!(offsets.is_sorted() && (8..40).contains(&offsets.len()), "{offsets:?}");
        // Whatever the cut, one is left that lies before it by no more than what was cut off, about.
        for cut in [99_998, 99_000, 90_000, 50_001] {
            let before = offsets.iter().rev().find(|offset| **offset < cut).unwrap();
            assert!(cut - before <= 4 * (100_000 - cut), "{cut} {offsets:?}");
        }
        landmarks.cut(Some(90_000));
        assert!(landmarks.records().iter().all(|record| record.offset <= 90_000) && !landmarks.is_empty());
        landmarks.cut(None);
        assert!(landmarks.is_empty());
    }
}
