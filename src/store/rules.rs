//! The table `rules`: the rules that were made by the API, and since which revision anything was judged by what.

use super::{Store, StoreError, Table};
use rocksdb::{IteratorMode, WriteBatch, WriteOptions};

/// The revision of the rules in force, and what they were then.
const REVISION_FIELD: &[u8] = b"rules_revision";
const FINGERPRINT_FIELD: &[u8] = b"rules_fingerprint";

impl Store {
    /// Every rule stored, by id, as it was given. Blocks on disk.
    pub fn rules(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let rows = self.db.iterator_cf(self.cf(Table::Rules), IteratorMode::Start);
        rows.map(|row| {
            let (id, rule) = row.map_err(StoreError::rocks("reading the rules"))?;
            let id = String::from_utf8(id.into_vec());
            let id = id.map_err(|_| StoreError::Corrupt { table: "rules", what: "an id is no text" })?;
            Ok((id, rule.into_vec()))
        })
        .collect()
    }

    /// The revision of the rules last in force, and their fingerprint. Blocks on disk.
    pub fn rules_revision(&self) -> Result<(u64, Option<u64>), StoreError> {
        Ok((self.number(REVISION_FIELD)?.unwrap_or(0), self.number(FINGERPRINT_FIELD)?))
    }

    fn number(&self, field: &[u8]) -> Result<Option<u64>, StoreError> {
        let value = self.db.get(field).map_err(StoreError::rocks("reading a field of the store"))?;
        let number = |value: Vec<u8>| value.as_slice().try_into().map(u64::from_be_bytes);
        let corrupt = |_| StoreError::Corrupt { table: "default", what: "a number is not 8 bytes" };
        value.map(number).transpose().map_err(corrupt)
    }

    /// Says which rules are in force from here on, and puts one of the stored ones (`None`: takes it away). Durable
    /// where it returns. Blocks on disk.
    pub fn put_rules_revision(
        &self,
        revision: u64,
        fingerprint: u64,
        rule: Option<(&str, Option<&[u8]>)>,
    ) -> Result<(), StoreError> {
        if self.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let mut batch = WriteBatch::default();
        batch.put(REVISION_FIELD, revision.to_be_bytes());
        batch.put(FINGERPRINT_FIELD, fingerprint.to_be_bytes());
        match rule {
            Some((id, Some(rule))) => batch.put_cf(self.cf(Table::Rules), id, rule),
            Some((id, None)) => batch.delete_cf(self.cf(Table::Rules), id),
            None => {}
        }
        let mut options = WriteOptions::default();
        options.set_sync(self.dir.is_some());
        self.db
            .write_opt(batch, &options)
            .map_err(StoreError::rocks("writing the rules"))
            .inspect_err(|_| self.poison())
    }
}
