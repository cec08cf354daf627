//! The use cases: what a call means, without what it travels in. Each takes parsed input and gives a result or a small error.

mod ads;
mod audit;
mod backfill;
mod counting;
mod decisions;
mod erasures;
mod figures;
mod operation;
mod pixels;
mod process;
mod readiness;
mod rules;
mod snapshots;
mod status_board;
mod supervisor;
mod users;

pub use ads::{AdView, Ads, AdsError};
pub use audit::{Audit, AuditCursor, AuditError, UnitAuditRow};
pub use backfill::Backfills;
pub use counting::{Batch, BatchError, CountError, CountedEvent, Counting, SingleEvent, TOO_MANY_KINDS_DETAIL};
pub use decisions::{Decisions, ReserveError};
pub use erasures::{Erasures, ErasuresError};
pub use figures::describe as describe_metrics;
pub use operation::{NotReady, Operation, Unhealthy};
pub use pixels::{PIXEL_RESULTS, PixelCall, PixelOff, Pixels, Signing};
pub use process::metrics as process_metrics;
pub use readiness::{BackFill, Readiness};
pub use rules::{ChangeError, Rules};
pub use snapshots::{Snapshots, SnapshotsError};
pub use status_board::StatusBoard;
pub use supervisor::{Failure, Supervisor, Why};
pub use users::{OptOutError, Users};

use crate::input::EventReader;
use crate::pixel::PixelKeys;
use crate::shard::Units;

/// All use cases of a process.
pub struct Services {
    /// Events.
    pub counting: Counting,
    /// Checks and reservations.
    pub decisions: Decisions,
    /// What is held of users.
    pub users: Users,
    /// Erasures of many users.
    pub erasures: Erasures,
    /// Rules.
    pub rules: Rules,
    /// The catalogue.
    pub ads: Ads,
    /// Signed pixels.
    pub pixels: Pixels,
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
    /// The keys of signed pixels.
    pub pixel_keys: PixelKeys,
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
        let ServiceParts { events, max_batch, pixel_keys, readiness, status, snapshots } = parts;
        let (users, backfills) = (Users::new(units.clone()), Backfills::new(units.clone()));
        Self {
            counting: Counting::new(units.router().clone(), events, max_batch),
            decisions: Decisions::new(units.clone()),
            erasures: Erasures::new(units, users.clone()),
            users,
            ads: Ads::new(units, backfills),
            rules: Rules::new(units.rulebook().clone(), units.router().clone()),
            pixels: Pixels::new(&pixel_keys, units.clock().clone()),
            operation: Operation::new(units.clone(), readiness, status),
            audit: Audit::new(units.stores().cloned().collect(), units.clock().clone()),
            snapshots,
        }
    }
}
