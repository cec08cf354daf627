//! What the stream of cap changes says.

use crate::model::{CapChange, TsMs};
use serde::Serialize;

/// A change of a cap: the state of a user's key from then on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = CapChanged)]
pub struct CapChanged<'a> {
    /// The user.
    #[schema(example = "u1")]
    pub user: &'a str,
    /// The key.
    #[schema(example = "campaign:42")]
    pub key: &'a str,
    /// `capped`, `extended`, `shortened` or `ended`.
    #[schema(value_type = String, example = "capped")]
    pub change: CapChange,
    /// Until when it is capped; null once it is not.
    #[schema(value_type = Option<u64>, example = 1732665600000u64)]
    pub capped_until: Option<TsMs>,
    /// When it changed; null in a snapshot.
    #[schema(value_type = Option<u64>, example = 1732233600000u64)]
    pub at: Option<TsMs>,
    /// The shard of the user, and a number that rises there with every change.
    #[schema(example = "240-17")]
    pub seq: &'a str,
}

/// A line of the stream. With server-sent events, `event` is the event's name, and its data has the other fields.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StreamEvent<'a> {
    /// A cap changed, or is part of a snapshot.
    Cap(CapChanged<'a>),
    /// Everything up to here was sent.
    Checkpoint {
        /// Resumes here, as `Last-Event-ID` or `after`. With server-sent events it is the event's id, too.
        #[schema(example = "AQAAAAAAAAAH")]
        id: &'a str,
    },
    /// Caps follow that are all there are. Forget what was told before.
    SnapshotBegin {
        /// Why: `asked`, or the reason of the `reset` before it.
        #[schema(example = "asked")]
        reason: &'a str,
    },
    /// The snapshot was sent.
    SnapshotEnd {
        /// Caps in it.
        caps: u64,
    },
    /// The stream cannot resume. A snapshot follows.
    Reset {
        /// `changes_gone`: they are not kept any more; `other_store`: the cursor is of another store or another history of it;
        /// `other_filter`: the cursor is of a stream of other shards or keys.
        #[schema(example = "changes_gone")]
        reason: &'a str,
    },
    /// The reader does not take what comes. It is closed, and may resume from its last checkpoint.
    Lagged {
        /// Bytes that waited for it.
        behind_bytes: u64,
    },
}
