//! freqcap: has this user seen this ad too often?
//!
//! The way of an event: [`http`] -> [`service`] (or [`kafka`], or a file, by [`cli`]) -> [`input`] -> [`shard`] -> [`engine`] ->
//! [`store`] -> answer, and what travels is in [`api`];
//! and beside it [`store`] -> [`mirror`] -> Redis. What a user, a key, a rule or a log is stands in [`model`].
//! ARCHITECTURE.md tells the rest.
#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

// `missing_docs` is on where everything public is documented; the other modules follow.
#[warn(missing_docs)]
pub mod alarm;
pub mod allocator;
pub mod api;
#[warn(missing_docs)]
pub mod bucket;
pub mod cli;
#[warn(missing_docs)]
pub mod clock;
#[warn(missing_docs)]
pub mod config;
pub mod engine;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod input;
pub mod kafka;
pub mod mirror;
pub mod model;
#[warn(missing_docs)]
pub mod priority;
#[warn(missing_docs)]
pub mod random;
pub mod service;
#[warn(missing_docs)]
pub mod settings;
pub mod shard;
#[warn(missing_docs)]
pub mod snapshot;
pub mod store;
#[warn(missing_docs)]
pub mod telemetry;
