//! Why the store did not do what it was asked, or did not read it.

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum StoreError {
    #[error("{doing}: {source}")]
    RocksDb { doing: &'static str, source: rocksdb::Error },
    #[error("a row of table {table} cannot be read: {what}")]
    Corrupt { table: &'static str, what: &'static str },
    #[error("{doing}: {kind}")]
    Io { doing: &'static str, kind: std::io::ErrorKind },
    #[error("{0} compactions failed, and what they would have rewritten is as it was; `freqcap verify` tells why")]
    NotCompacted(u64),
    #[error("an earlier write failed, so nothing more is written until a restart")]
    Poisoned,
    #[error("too much of what is read changed meanwhile")]
    Overtaken,
    #[error(
        "the bucket has not taken the change in time; it is durable here, and may be there soon: look, or send it again"
    )]
    NotInBucket,
    #[error("the store is in memory: there is no directory to take a checkpoint of")]
    InMemory,
}

/// Why something was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ReadError {
    /// It is on disk: ask again where blocking is allowed.
    #[error("not all of it is in memory")]
    WouldBlock,
    #[error("there is no room for it in memory")]
    NoRoom,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StoreError {
    /// Whether a row is there and cannot be read.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::RocksDb { .. } | Self::Corrupt { .. })
    }

    pub(in crate::store) fn rocks(doing: &'static str) -> impl FnOnce(rocksdb::Error) -> StoreError {
        move |source| StoreError::RocksDb { doing, source }
    }

    pub(in crate::store) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> StoreError {
        move |error| StoreError::Io { doing, kind: error.kind() }
    }
}
