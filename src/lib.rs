//! freqcap: has this user seen this ad too often?
//!
//! The way of an event: [`http`] -> [`service`] (or [`kafka`], or a file, by [`cli`]) -> [`input`] -> [`shard`] -> [`engine`] ->
//! [`store`] -> answer, and what travels is in [`api`];
//! and beside it [`store`] -> [`mirror`] -> Redis. What a user, a key, a rule or a log is stands in [`model`].
//! ARCHITECTURE.md tells the rest.
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod alarm;
pub mod allocator;
pub mod api;
#[warn(missing_docs)]
pub mod auth;
#[warn(missing_docs)]
pub mod bucket;
pub mod cli;
pub mod clock;
#[warn(missing_docs)]
pub mod cluster;
pub mod config;
pub mod engine;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod input;
pub mod kafka;
pub mod mirror;
pub mod model;
pub mod priority;
pub mod random;
pub mod service;
pub mod settings;
pub mod shard;
#[warn(missing_docs)]
pub mod snapshot;
pub mod store;
pub mod stream;
pub mod telemetry;
