//! What a call that erases many users notes of those who are erased.

use super::error::StoreError;
use super::store::Store;
use super::tables::erasures::ErasureReceipt;
use crate::model::{ShardId, TsMs};

impl Store {
    /// Notes that users of a call are erased, by their numbers; `user` is one of them. Durable where it returns. Their rows leave
    /// every file as those of an erasure do. Blocks on disk.
    pub fn note_erased(
        &self,
        id: &str,
        numbers: &[u32],
        receipt: &ErasureReceipt,
        user: &str,
        now: TsMs,
    ) -> Result<(), StoreError> {
        let mut batch = rocksdb::WriteBatch::default();
        self.tables.erasures.done(&mut batch, id, numbers, receipt);
        self.at_rest.write_besides(batch, ShardId::of_user(user.as_bytes()), now)
    }
}
