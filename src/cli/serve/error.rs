//! Why the service did not start, or ended badly.

use super::super::access::AccessError;
use super::super::admin::AdminError;
use super::super::snapshots::SnapshotsError;
use super::super::starting::StartingError;
use crate::kafka::KafkaError;
use crate::shard::{RulebookError, UnitError};
use crate::store::{OpenError, StoreError};
use crate::telemetry::TelemetryError;
use std::net::SocketAddr;

/// Why the service did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ServeError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot listen on {addr}: {source}; choose another address with --listen")]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rules(#[from] RulebookError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
    #[error(transparent)]
    Starting(#[from] StartingError),
    #[error("{0}: this process has ended to be started again (--exit-when-poisoned)")]
    Poisoned(String),
    #[error("starting the service: {0}")]
    Runtime(std::io::Error),
    /// Nobody takes connections any more.
    #[error("the HTTP server ended by a panic")]
    Panicked,
}

impl From<UnitError> for ServeError {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::Open(error) => Self::Open(error),
            UnitError::Rules(error) => Self::Rules(error),
            UnitError::Store(error) => Self::Store(error),
        }
    }
}
