//! Snapshots, as they are listed and as one that was taken is answered.

use crate::snapshot::{Details, State, Summary};
use serde::Serialize;

/// A snapshot in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SnapshotAnswer {
    /// What `--restore` and `freqcap snapshot restore` take.
    #[schema(example = "17")]
    pub id: String,
    /// Its number; the highest is the newest.
    #[schema(example = 17)]
    pub sequence: u64,
    /// `whole` as far as its manifest tells; `void` where a superseded process wrote it, so that it is no part of the history;
    /// `unreadable` where its manifest cannot be read.
    #[schema(example = "whole")]
    pub state: &'static str,
    /// When it was begun, in ms since 1970: it holds everything that was acknowledged before. Null where unreadable.
    pub time: Option<u64>,
    /// When its manifest was written, in ms since 1970 by the bucket's clock.
    pub written: u64,
    /// Which writer took it: each process that takes over the prefix begins an epoch.
    pub epoch: Option<u64>,
    /// The size of the data directory in it.
    pub bytes: Option<u64>,
    /// How many files it has.
    pub files: Option<usize>,
    /// The store that it is of.
    pub store_id: Option<String>,
    /// The revision of the rules in it.
    pub rules_revision: Option<u64>,
    /// Why it is unreadable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The snapshots under the prefix.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SnapshotsAnswer {
    /// The newest first.
    pub snapshots: Vec<SnapshotAnswer>,
}

/// A snapshot that is not done yet.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SnapshotUnderWay {
    /// `taking`: `GET /snapshots` lists it once it is done.
    #[schema(example = "taking")]
    pub state: &'static str,
}

impl From<Summary> for SnapshotAnswer {
    fn from(Summary { sequence, written_ms, state }: Summary) -> Self {
        let (state, details, why) = match state {
            State::Listed(details) => ("whole", Some(details), None),
            State::Void(details) => ("void", Some(details), None),
            State::Unreadable { why, .. } => ("unreadable", None, Some(why)),
        };
        let of = |figure: fn(&Details) -> u64| details.as_ref().map(figure);
        Self {
            id: sequence.to_string(),
            sequence,
            state,
            time: of(|details| details.taken_ms),
            written: written_ms,
            epoch: of(|details| details.epoch),
            bytes: of(|details| details.bytes),
            rules_revision: of(|details| details.rules_revision),
            files: details.as_ref().map(|details| details.files),
            store_id: details.map(|details| details.store_id),
            why,
        }
    }
}

impl SnapshotsAnswer {
    /// Of a list that has the oldest first.
    pub fn new(summaries: Vec<Summary>) -> Self {
        Self { snapshots: summaries.into_iter().rev().map(SnapshotAnswer::from).collect() }
    }
}
