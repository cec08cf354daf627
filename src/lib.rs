//! freqcap: has this user seen this ad too often?
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod http;
pub mod input;
pub mod mirror;
pub mod model;
pub mod shard;
pub mod store;
pub mod telemetry;
