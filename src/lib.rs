//! freqcap: has this user seen this ad too often?
pub mod engine;
pub mod model;
pub mod store;
