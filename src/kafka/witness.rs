//! The brokers' clock as a witness for this machine's, where a topic's records have the time of appending.

use super::client::{Consumer, REQUEST_TIMEOUT, end_asker};
use super::options::Options;
use crate::clock::Clock;
use crate::model::TsMs;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::{BorrowedMessage, Message, Timestamp};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often the ends are asked for while the clock is not believed.
const ASK_INTERVAL: Duration = Duration::from_secs(5);
/// How long in a row they are asked for.
const ASK_BUDGET: Duration = Duration::from_millis(100);
/// A record was appended lately if it lies beyond an end that was asked for this long ago at most.
const LATELY: Duration = Duration::from_secs(10);

/// Knows of partitions where they ended lately.
///
/// A time of appending is of now only if the record was appended since we asked. What was appended earlier may be seen
/// late: a record of a transaction is read once that is committed. Such a time would agree with a clock that is behind.
/// So the end that counts is that of all records, of open transactions, too.
#[derive(Default)]
pub(super) struct Witness {
    client: Option<Consumer>,
    ends: BTreeMap<u32, (u64, Instant)>,
    asked_at: Option<Instant>,
    /// The partition that is asked for first at the next time.
    next: u32,
}

impl Witness {
    /// Asks where partitions end, if it is time and the clock needs a witness. Blocks on the brokers.
    pub(super) fn ask(&mut self, options: &Options, partitions: impl Iterator<Item = u32>, clock: &Clock) {
        if clock.is_believed() {
            if self.client.is_some() {
                *self = Self::default();
            }
            return;
        }
        if self.asked_at.is_some_and(|at| at.elapsed() < ASK_INTERVAL) {
            return;
        }
        let mut numbers: Vec<u32> = partitions.collect();
        if numbers.is_empty() {
            return;
        }
        let start = Instant::now();
        let first = numbers.partition_point(|number| *number < self.next);
        numbers.rotate_left(first);
        for number in numbers {
            self.next = number;
            if start.elapsed() >= ASK_BUDGET || !self.ask_end(options, number) {
                break;
            }
            self.next = number.saturating_add(1);
        }
        self.asked_at = Some(Instant::now());
    }

    /// Whether the brokers said it.
    fn ask_end(&mut self, options: &Options, number: u32) -> bool {
        if self.client.is_none() {
            self.client = end_asker(options).ok();
        }
        let Some(client) = &self.client else { return false };
        // Before the question: what lies beyond the answer came later than this.
        let at = Instant::now();
        match client.fetch_watermarks(&options.topic, number as i32, REQUEST_TIMEOUT) {
            Ok((_, end)) => {
                self.ends.insert(number, (end.max(0) as u64, at));
                true
            }
            Err(error) => {
                tracing::debug!(partition = number, %error, "Kafka is no witness for the clock");
                false
            }
        }
    }

    /// Tells the clock when a record was appended, if that was just now.
    pub(super) fn saw(&self, number: u32, message: &BorrowedMessage<'_>, clock: &Clock) {
        if let Some(&(end, at)) = self.ends.get(&number)
            && is_lately(message.offset() as u64, end, at.elapsed())
            && let Timestamp::LogAppendTime(ms) = message.timestamp()
            && let Ok(ts) = TsMs::from_millis(ms.into())
        {
            clock.confirm(ts);
        }
    }
}

fn is_lately(offset: u64, end: u64, age: Duration) -> bool {
    offset >= end && age <= LATELY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_beyond_an_end_of_lately_was_appended_lately() {
        let cases = [(9, 10, 0, false), (10, 10, 0, true), (11, 10, 10, true), (11, 10, 11, false)];
        for (offset, end, seconds, lately) in cases {
            assert_eq!(is_lately(offset, end, Duration::from_secs(seconds)), lately, "{offset} {end} {seconds}");
        }
    }
}
