//! In place of the adapter, where it was not built.

use super::{KafkaError, Options, Parts, Running};

pub fn start(_options: Options, _parts: Parts) -> Result<Running, KafkaError> {
    Err(KafkaError::NotBuilt)
}
