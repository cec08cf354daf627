//! In place of the adapter, where it was not built.

use super::{KafkaError, Options, OutputOptions, Parts, Running, RunningOutput};
use crate::store::Store;
use std::sync::Arc;

pub fn start(_options: Options, _parts: Parts) -> Result<Running, KafkaError> {
    Err(KafkaError::NotBuilt)
}

pub fn start_output(_options: OutputOptions, _stores: Vec<Arc<Store>>) -> Result<RunningOutput, KafkaError> {
    Err(KafkaError::NotBuilt)
}
