//! Errors between the store and Redis.

use crate::store::StoreError;
use redis::{RedisError, ServerError};

/// Why something was not sent to Redis. It is sent again.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum MirrorError {
    /// As text: a server may repeat what it was sent, a password among it.
    #[error("connecting to Redis at {addr}: {why}")]
    Connect { addr: String, why: String },
    #[error("{doing}: the connection to Redis at {addr} failed: {source}")]
    Lost { doing: &'static str, addr: String, source: RedisError },
    #[error("{doing}: Redis at {addr} did not answer within {ms} ms")]
    Slow { doing: &'static str, addr: String, ms: u128 },
    #[error("{doing}: Redis at {addr} refused: {code} {detail}")]
    Refused { doing: &'static str, addr: String, code: String, detail: String },
    #[error("{doing}: Redis at {addr} gave an answer of an unknown form")]
    Unexpected { doing: &'static str, addr: String },
    #[error("the Redis Cluster serves only some of its slots")]
    Incomplete,
    #[error("the masters of the Redis Cluster changed, or who serves which slot")]
    Moved,
    #[error("Redis no longer knows what it was told")]
    Broken,
    #[error("the prefix {prefix:?} belongs to the store {owner:?}; --redis-takeover takes it")]
    Foreign { prefix: String, owner: String },
    #[error(
        "another process with a copy of this data directory (store {store}) mirrors to the prefix {prefix:?}, so this \
         one has stopped mirroring; end one of the two, and give its directory no more than one process"
    )]
    Copied { prefix: String, store: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a task that read the store ended early")]
    Task,
}

impl MirrorError {
    pub(super) fn refused(doing: &'static str, addr: &str, error: &ServerError) -> Self {
        let detail = error.details().unwrap_or_default().to_owned();
        Self::Refused { doing, addr: addr.to_owned(), code: error.code().to_owned(), detail }
    }

    /// A label for metrics, of a small set.
    pub(super) fn kind(&self) -> &'static str {
        const KNOWN: [&str; 16] = [
            "OOM",
            "READONLY",
            "MISCONF",
            "NOREPLICAS",
            "LOADING",
            "BUSY",
            "NOAUTH",
            "WRONGPASS",
            "NOPERM",
            "WRONGTYPE",
            "MOVED",
            "ASK",
            "TRYAGAIN",
            "CLUSTERDOWN",
            "MASTERDOWN",
            "ERR",
        ];
        match self {
            Self::Connect { .. } => "connect",
            Self::Lost { .. } => "lost",
            Self::Slow { .. } => "timeout",
            Self::Refused { code, .. } => KNOWN.into_iter().find(|known| known == code).unwrap_or("refused"),
            Self::Unexpected { .. } => "unexpected",
            Self::Moved => "topology",
            Self::Incomplete => "incomplete",
            Self::Broken => "broken",
            Self::Foreign { .. } => "foreign",
            Self::Copied { .. } => "copied",
            Self::Store(_) | Self::Task => "store",
        }
    }

    /// Whether the connection can still be used: all replies were read, and the right server answers.
    pub(super) fn keeps_link(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(&code[..], "OOM" | "MISCONF" | "NOREPLICAS" | "BUSY" | "TRYAGAIN"),
            Self::Broken | Self::Store(_) | Self::Task => true,
            _ => false,
        }
    }
}
