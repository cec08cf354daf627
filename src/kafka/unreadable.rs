//! Records whose users cannot be counted, for something held of them cannot be read: set aside as dead letters. By the
//! time that is known the record itself is gone from memory, so it is read once more.

use super::client::Consumer;
use super::dead::{DeadLetters, Letter};
use super::partition::Partition;
use super::puller::assign;
use rdkafka::error::{KafkaError as ClientError, KafkaResult};
use rdkafka::message::Message;
use std::time::{Duration, Instant};

/// The dead letter's reason.
const UNREADABLE: &str = "row_unreadable";
/// How long in a row records are read once more.
const READ_FOR: Duration = Duration::from_millis(200);
/// So many records are read past rather than sought past.
const READ_PAST: u64 = 1_000;

/// Buries what a partition has to set aside, as far as there is time and room. What is left is for the next time.
pub(super) fn set_aside(
    asker: &Consumer,
    topic: &str,
    partition: &mut Partition,
    dead: &mut DeadLetters,
) -> KafkaResult<()> {
    let (start, number) = (Instant::now(), partition.number());
    let mut position = None;
    let mut done = Ok(());
    while let Some(&(chunk, offset)) = partition.unreadable.front()
        && start.elapsed() < READ_FOR
        && !dead.is_full()
    {
        let detail = "something that is held of the user cannot be read".to_owned();
        let mut letter = Letter::unread((number, offset), chunk, UNREADABLE, detail);
        if dead.has_topic() {
            match read(asker, topic, number, offset, &mut position, &mut letter) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
        }
        partition.unreadable.pop_front();
        if !dead.bury(letter, Instant::now()) {
            partition.underway.done(chunk);
        }
    }
    if position.is_some() {
        assign(asker, topic, number, None)?;
    }
    done
}

/// Reads a record into a letter; whether there was an answer. `position` is where the consumer is.
fn read(
    asker: &Consumer,
    topic: &str,
    partition: u32,
    offset: u64,
    position: &mut Option<u64>,
    letter: &mut Letter,
) -> KafkaResult<bool> {
    if position.is_none_or(|at| offset < at || offset - at > READ_PAST) {
        assign(asker, topic, partition, Some(offset))?;
    }
    *position = Some(offset);
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
                    letter.detail.push_str(" (and the record itself is no longer in its topic)");
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
