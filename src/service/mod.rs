//! The use cases: what a call means, without what it travels in. Each takes parsed input and gives a result or a small error.

mod audit;
mod counting;
mod decisions;
mod figures;
mod operation;
mod process;
mod readiness;
mod rules;
mod snapshots;
mod status_board;
mod supervisor;
mod users;

pub use audit::{Audit, AuditCursor, AuditError, UnitAuditRow};
pub use counting::{Batch, BatchError, CountError, CountedEvent, Counting, SingleEvent, TOO_MANY_KINDS_DETAIL};
pub use decisions::{Decisions, ReserveError};
pub use figures::describe as describe_metrics;
pub use operation::{NotReady, Operation, Unhealthy};
pub use process::metrics as process_metrics;
pub use readiness::{BackFill, Readiness};
pub use rules::{ChangeError, Rules};
pub use snapshots::{Snapshots, SnapshotsError};
pub use status_board::StatusBoard;
pub use supervisor::{Failure, Supervisor, Why};
pub use users::Users;

use crate::input::EventReader;
use crate::shard::Units;

/// All use cases of a process.
pub struct Services {
    /// Events.
    pub counting: Counting,
    /// Checks and reservations.
    pub decisions: Decisions,
    /// What is held of users.
    pub users: Users,
    /// Rules.
    pub rules: Rules,
    /// Health, readiness, status.
    pub operation: Operation,
    /// Who changed what.
    pub audit: Audit,
    /// Snapshots.
    pub snapshots: Snapshots,
}

/// What the use cases need besides the units.
pub struct ServiceParts {
    /// Parses events.
    pub events: EventReader,
    /// Maximum events of a batch.
    pub max_batch: usize,
    /// Whether the process takes requests.
    pub readiness: Readiness,
    /// What the parts of the service say of themselves.
    pub status: StatusBoard,
    /// The snapshots, if any are taken.
    pub snapshots: Snapshots,
}

impl Services {
    /// The use cases over the units of the process.
    pub fn new(units: &Units, parts: ServiceParts) -> Self {
        let ServiceParts { events, max_batch, readiness, status, snapshots } = parts;
        Self {
            counting: Counting::new(units.router().clone(), events, max_batch),
            decisions: Decisions::new(units.clone()),
            users: Users::new(units.clone()),
            rules: Rules::new(units.rulebook().clone(), units.router().clone()),
            operation: Operation::new(units.clone(), readiness, status),
            audit: Audit::new(units.stores().cloned().collect(), units.clock().clone()),
            snapshots,
        }
    }
}
