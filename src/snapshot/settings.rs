//! The settings of snapshots.

use crate::bucket::BucketUrl;
use crate::model::Span;
use crate::settings::{Invalid, Value, settings};
use std::time::Duration;

settings! {
    /// The settings of snapshots.
    pub struct Settings, SettingFlags {
        "Snapshots" {
            snapshots: Option<BucketUrl> = "none", "URL|none",
                "Bucket and prefix for snapshots of the store: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or \
                 file:///directory; credentials come from the provider's usual environment";
            snapshot_every: Span = "60s", "DURATION", "How often a snapshot is taken";
            snapshot_lag: Lag = "none", "DURATION|none",
                "Between snapshots every write is shipped to the bucket within about this time: so much of what was acknowledged \
                 may be lost with the disk, rather than all since the last snapshot";
            snapshots_keep: Span = "24h", "DURATION", "How long snapshots are kept; the newest always is";
            snapshot_at_end: Span = "8s", "DURATION",
                "How long after SIGTERM and --drain the last snapshot may take; one that is given up leaves what was counted \
                 since the one before on the disk alone";
            restore: Restore = "auto", "auto|never|ID",
                "What to restore: into an empty data directory the newest snapshot, nothing, or the one of this id, which also \
                 replaces a data directory that the bucket has overtaken";
            takeover: bool = "false", "true|false",
                "Do not wait for the lease of another process that writes under the prefix: supersede it";
        }
    }
}

/// What a start restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    /// The newest snapshot, into an empty data directory.
    Auto,
    /// Nothing.
    Never,
    /// The snapshot of this id, into a data directory that is empty or that the bucket has overtaken.
    Snapshot(u64),
}

impl Value for Restore {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "never" => Ok(Self::Never),
            _ => match text.parse() {
                Ok(id) if id > 0 => Ok(Self::Snapshot(id)),
                _ => Err("is neither `auto`, `never` nor the id of a snapshot, such as 17".to_owned()),
            },
        }
    }
}

/// Where snapshots are; `none` is nowhere.
impl Value for Option<BucketUrl> {
    // Who puts credentials into it is told that they do not belong there, and not shown them again.
    const IS_SECRET: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(None),
            _ => text.parse().map(Some).map_err(|why: crate::bucket::UrlError| format!("{why}, nor `none`")),
        }
    }
}

/// A snapshot reads the list of the bucket: more often is of no use.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// Each segment is an object: more often costs more than it keeps.
const LAG_MIN: Duration = Duration::from_millis(100);

/// Within which time writes are shipped; `none`: they are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag(pub Option<Span>);

impl Value for Lag {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            _ => Span::read(text).map(|lag| Self(Some(lag))).map_err(|why| format!("{why}, nor `none`")),
        }
    }
}

impl Settings {
    /// Checks that the settings make sense.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.snapshots.is_none() {
            if self.takeover {
                return Err(Invalid::new("takeover", "is of no use without --snapshots"));
            }
            if matches!(self.restore, Restore::Snapshot(_)) {
                return Err(Invalid::new("restore", "is of no use without --snapshots"));
            }
            if self.snapshot_lag != Lag(None) {
                return Err(Invalid::new("snapshot_lag", "is of no use without --snapshots"));
            }
            return Ok(());
        }
        if self.snapshot_lag.0.is_some_and(|lag| lag.as_duration() < LAG_MIN) {
            return Err(Invalid::new("snapshot_lag", "is less than 100ms"));
        }
        if self.snapshot_every.as_duration() < EVERY_MIN {
            return Err(Invalid::new("snapshot_every", "is less than 1s"));
        }
        if self.snapshots_keep.as_duration() < self.snapshot_every.as_duration() {
            return Err(Invalid::new("snapshots_keep", "is less than --snapshot-every"));
        }
        Ok(())
    }
}
