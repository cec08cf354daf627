//! The use cases: what a call means, without what it travels in. Each takes parsed input and gives a result or a small error.

mod counting;
mod decisions;
mod figures;
mod operation;
mod process;
mod readiness;
mod rules;
mod snapshots;
mod status_board;
mod users;

pub use counting::{Batch, BatchError, CountError, CountedEvent, Counting, SingleEvent, TOO_MANY_KINDS_DETAIL};
pub use decisions::{Decisions, ReserveError};
pub use figures::describe as describe_metrics;
pub use operation::{NotReady, Operation, Unhealthy};
pub use process::metrics as process_metrics;
pub use readiness::{BackFill, Readiness};
pub use rules::{ChangeError, Rules};
pub use snapshots::{Snapshots, SnapshotsError};
pub use status_board::StatusBoard;
pub use users::Users;

use crate::input::EventReader;
use crate::shard::Shards;
use crate::store::Store;
use std::sync::Arc;

/// All use cases of a process.
pub struct Services {
    pub counting: Counting,
    pub decisions: Decisions,
    pub users: Users,
    pub rules: Rules,
    pub operation: Operation,
    pub snapshots: Snapshots,
}

/// What the use cases need besides the shards.
pub struct ServiceParts {
    pub store: Arc<Store>,
    pub events: EventReader,
    /// Maximum events of a batch.
    pub max_batch: usize,
    pub readiness: Readiness,
    pub status: StatusBoard,
    pub snapshots: Snapshots,
}

impl Services {
    pub fn new(shards: &Shards, parts: ServiceParts) -> Self {
        let ServiceParts { store, events, max_batch, readiness, status, snapshots } = parts;
        let (router, reader) = (shards.router(), shards.reader());
        Self {
            counting: Counting::new(router.clone(), events, max_batch),
            decisions: Decisions::new(router.clone(), reader.clone()),
            users: Users::new(router.clone(), reader.clone()),
            rules: Rules::new(shards.rulebook().clone(), router.clone()),
            operation: Operation::new(router.clone(), reader.clone(), store, readiness, status),
            snapshots,
        }
    }
}
