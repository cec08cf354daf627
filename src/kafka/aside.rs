//! Sets aside, as dead letters, records that a writer could not count: a row of the user cannot be read, or a log has
//! too many kinds. The record is no longer in memory when the writer answers, so it is read from Kafka again.

use super::client::{Consumer, assign};
use super::dead_letters::{DeadLetters, Letter};
use super::left_out::{LeftOut, detail};
use super::partition::{Partition, Phase};
use rdkafka::error::{KafkaError as ClientError, KafkaResult};
use rdkafka::message::Message;
use std::time::{Duration, Instant};

/// Time budget of one call for reading such records again, over all partitions.
pub(super) const READ_FOR: Duration = Duration::from_millis(200);
/// Added to the letter of a record that cannot be read again.
const GONE: &str = " (and the record itself is no longer in its topic)";
/// Records up to this far ahead are read and skipped; further ones are reached by a seek.
const READ_PAST: u64 = 1_000;

/// Sends the dead letters of a partition until `until`, or until there is no room. The rest waits for the next call.
pub(super) fn set_aside(
    asker: &Consumer,
    topic: &str,
    partition: &mut Partition,
    dead: &mut DeadLetters,
    until: Instant,
) -> KafkaResult<()> {
    let number = partition.number();
    // If the topic was made anew, its offsets belong to other records.
    let is_there = !matches!(partition.phase, Phase::Changed(_) | Phase::Stopped);
    let mut position = None;
    let mut done = Ok(());
    while let Some(&LeftOut { chunk, offset, code }) = partition.left_out.front()
        && Instant::now() < until
        && !dead.is_full()
    {
        let mut letter = Letter::unread((number, offset), chunk, code, detail(code));
        if dead.has_topic() && !is_there {
            letter.detail.push_str(GONE);
        } else if dead.has_topic() {
            match read(asker, (topic, number, offset), &mut position, &mut letter) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
        }
        partition.left_out.pop_front();
        if !dead.put(letter, Instant::now()) {
            partition.in_flight.done(chunk);
        }
    }
    if position.is_some() {
        assign(asker, topic, number, None)?;
    }
    done
}

/// Reads a record into a letter. Returns whether there was an answer. `position` is where the consumer stands.
fn read(
    asker: &Consumer,
    (topic, partition, offset): (&str, u32, u64),
    position: &mut Option<u64>,
    letter: &mut Letter,
) -> KafkaResult<bool> {
    if position.is_none_or(|at| offset < at || offset - at > READ_PAST) {
        assign(asker, topic, partition, Some(offset))?;
    }
    *position = Some(offset);
    // Each record gets the full time, whatever is left until `until`: the first read after a seek is slow.
    let start = Instant::now();
    while start.elapsed() < READ_FOR {
        match asker.poll(READ_FOR) {
            None => {}
            Some(Ok(message)) if message.partition() as u32 != partition => {}
            Some(Ok(message)) => {
                let found = message.offset() as u64;
                *position = Some(found + 1);
                if found == offset {
                    letter.fill(&message);
                    return Ok(true);
                }
                if found > offset {
                    letter.detail.push_str(GONE);
                    return Ok(true);
                }
            }
            Some(Err(ClientError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error),
        }
    }
    *position = None;
    assign(asker, topic, partition, None)?;
    Ok(false)
}
