//! The whole service from outside, with real parts: one binary, a module a subject.
//!
//! `script/test mirror::` runs the tests of one module, `script/test --test it` all of them.

mod access;
mod bounds;
mod cli;
mod clock;
#[cfg(feature = "kafka")]
mod cluster;
mod crash;
mod damage;
mod decisions;
mod documents;
mod erasure;
mod field;
mod hostile;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod many_units;
mod memory;
mod mirror;
mod model;
mod operation;
mod rules;
mod simulation;
mod snapshots;
mod support;
mod units;
mod users;
mod whole;
