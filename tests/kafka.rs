//! The Kafka adapter against a real broker: whatever happens to the broker, the topic or to freqcap, every event counts
//! once.
#![cfg(feature = "kafka")]

#[path = "support/kafka_broker.rs"]
mod broker;
#[path = "support/shim.rs"]
#[allow(dead_code)]
mod shim;
mod support;

#[path = "kafka/clock.rs"]
mod clock;
#[path = "kafka/counts.rs"]
mod counts;
#[path = "kafka/crash.rs"]
mod crash;
#[path = "kafka/formats.rs"]
mod formats;
#[path = "kafka/gaps.rs"]
mod gaps;
#[path = "kafka/letters.rs"]
mod letters;
#[path = "kafka/measure.rs"]
mod measure;
#[path = "kafka/output.rs"]
mod output;
#[path = "kafka/owner.rs"]
mod owner;
#[path = "kafka/panics.rs"]
mod panics;
#[path = "kafka/poison.rs"]
mod poison;
#[path = "kafka/topics.rs"]
mod topics;
#[path = "kafka/world.rs"]
mod world;
