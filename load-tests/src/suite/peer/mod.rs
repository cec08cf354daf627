//! What freqcap is measured beside, on the same machine in the same run.

pub mod empty;
pub mod flink;
pub mod redis;
pub mod throttlecrab;
