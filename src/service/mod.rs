//! The use cases: what a call means, without what it travels in. Each takes parsed input and gives a result or a small error.

mod ads;
mod audit;
mod backfill;
mod counting;
mod decisions;
mod erasures;
mod figures;
mod operation;
mod over;
mod pixels;
mod process;
mod readiness;
mod reports;
mod rules;
mod snapshots;
mod status_board;
mod supervisor;
mod users;

pub use ads::{AdView, Ads, AdsError};
pub use audit::{Audit, AuditError};
pub use backfill::Backfills;
pub use counting::{Batch, BatchError, CountError, CountedEvent, Counting, SingleEvent, TOO_MANY_KINDS_DETAIL};
pub use decisions::{Decisions, ReserveError};
pub use erasures::{Erasures, ErasuresError};
pub use figures::describe as describe_metrics;
pub use operation::{NotReady, Operation, Unhealthy};
pub use over::{Over, OverBy, OverQuery};
pub use pixels::{PIXEL_RESULTS, PixelCall, PixelOff, Pixels, Signing};
pub use process::metrics as process_metrics;
pub use readiness::{BackFill, Readiness};
pub use reports::{ReportKeys, Reports, Tried, TryError, WINDOW_DEFAULT};
pub use rules::{ChangeError, Rules};
pub use snapshots::{Snapshots, SnapshotsError};
pub use status_board::StatusBoard;
pub use supervisor::{Failure, Supervisor, Why};
pub use users::{OptOutError, Users};

use crate::input::EventReader;
use crate::pixel::PixelKeys;
use crate::shard::UnitHandle;
use std::time::Duration;

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
    /// Reach, frequency, and what a rule would do.
    pub reports: Reports,
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
    /// Over-delivery.
    pub over: Over,
}

/// What the use cases need besides the unit.
pub struct ServiceParts {
    /// Parses events.
    pub events: EventReader,
    /// Maximum events of a batch.
    pub max_batch: usize,
    /// How long a question about all users waits for its answer.
    pub report_wait: Duration,
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
    /// The use cases over a unit.
    pub fn new(unit: &UnitHandle, parts: ServiceParts) -> Self {
        let ServiceParts { events, max_batch, report_wait, pixel_keys, readiness, status, snapshots } = parts;
        let UnitHandle { router, reader, rulebook, survey, store } = unit;
        let backfills = Backfills::new(store.clone(), router.clone());
        let users = Users::new(router.clone(), reader.clone());
        let audit = Audit::new(store.clone(), reader.clock().clone());
        Self {
            counting: Counting::new(router.clone(), events, max_batch),
            decisions: Decisions::new(router.clone(), reader.clone()),
            erasures: Erasures::new(store.clone(), router.clone(), users.clone(), reader.clock().clone()),
            users,
            ads: Ads::new(store.clone(), router.clone(), reader.clock().clone(), backfills),
            rules: Rules::new(rulebook.clone(), router.clone()),
            reports: Reports::new(survey.clone(), rulebook.clone(), report_wait),
            pixels: Pixels::new(&pixel_keys, reader.clock().clone()),
            operation: Operation::new(router.clone(), reader.clone(), store.clone(), readiness, status),
            audit,
            snapshots,
            over: Over::new(store.clone(), reader.clock().clone()),
        }
    }
}
