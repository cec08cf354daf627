//! The Kafka adapter against a real broker: whatever happens to the broker, the topic or to freqcap, every event counts
//! once.

mod clock;
mod counts;
mod crash;
mod formats;
mod gaps;
mod letters;
mod measure;
mod output;
mod over;
mod owner;
mod panics;
mod poison;
mod topics;
pub mod world;
