//! The table `rules`: the rules made by the API, and a mark of the rules last in force.

use crate::model::TsMs;
use crate::store::db::Db;
use crate::store::error::StoreError;
use crate::store::table::Table;
use crate::store::tables::audit::{Audit, AuditEntry};
use rocksdb::{IteratorMode, WriteBatch};
use std::sync::Arc;

const MARK_FIELD: &[u8] = b"rules_mark";
/// The rules of the flags and the file that were last in force.
const FIXED_FIELD: &[u8] = b"rules_fixed";

/// Identifies the rules that were last in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RulesMark {
    /// Rises with every change.
    pub revision: u64,
    /// Differs if the rules, or settings that judge, differ.
    pub fingerprint: u64,
    /// The retention that they need, in ms.
    pub retention_ms: u64,
    /// Every event since this instant is kept; an earlier one may have been removed.
    pub held_since: TsMs,
}

impl RulesMark {
    pub(in crate::store) fn encode(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let fields = [self.revision, self.fingerprint, self.retention_ms, self.held_since.0];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    pub(in crate::store) fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, []) = bytes.as_chunks::<8>() else { return None };
        let &[revision, fingerprint, retention_ms, held_since] = fields else { return None };
        Some(Self {
            revision: u64::from_be_bytes(revision),
            fingerprint: u64::from_be_bytes(fingerprint),
            retention_ms: u64::from_be_bytes(retention_ms),
            held_since: TsMs(u64::from_be_bytes(held_since)),
        })
    }
}

/// A change of the rules: one write, with the lines that tell of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RulesChange<'c> {
    /// The mark of the rules in force from now on.
    pub mark: RulesMark,
    /// Those that the API made, changed or (`None`) removed.
    pub rules: &'c [(&'c str, Option<&'c [u8]>)],
    /// The rules of the flags and the file, where they are others.
    pub fixed: Option<&'c [u8]>,
    /// When it is made.
    pub at: TsMs,
    /// Its lines of the audit.
    pub lines: &'c [AuditEntry],
}

/// All that the store has of the rules, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesState {
    mark: Option<RulesMark>,
    rules: Vec<(String, Vec<u8>)>,
    fixed: Option<Vec<u8>>,
}

/// The table.
pub struct Rules {
    db: Arc<Db>,
    audit: Arc<Audit>,
}

impl Rules {
    pub(in crate::store) fn new(db: Arc<Db>, audit: Arc<Audit>) -> Self {
        Self { db, audit }
    }

    /// Every stored rule, by id, as it was written. Blocks on disk.
    pub fn all(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut rules = Vec::new();
        for row in self.db.rocks.iterator_cf(self.db.cf(Table::Rules), IteratorMode::Start) {
            let (id, rule) = row.map_err(StoreError::rocks("reading the rules"))?;
            let id = String::from_utf8(id.into_vec());
            let id = id.map_err(|_| StoreError::Corrupt { table: "rules", what: "an id is no text" })?;
            rules.push((id, rule.into_vec()));
        }
        Ok(rules)
    }

    /// The mark of the rules last in force; `None` in a new store. Blocks on disk.
    pub fn in_force(&self) -> Result<Option<RulesMark>, StoreError> {
        let value = self.db.rocks.get(MARK_FIELD).map_err(StoreError::rocks("reading a field of the store"))?;
        let corrupt = StoreError::Corrupt { table: "default", what: "the mark of the rules is not 32 bytes" };
        value.map(|value| RulesMark::decode(&value).ok_or(corrupt)).transpose()
    }

    /// The rules of the flags and the file that were last in force, as they were written; `None` in a new store. Blocks on
    /// disk.
    pub fn fixed(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.rocks.get(FIXED_FIELD).map_err(StoreError::rocks("reading a field of the store"))
    }

    /// Writes a change, all of it or nothing. Durable when it returns. Blocks on disk.
    pub fn put_in_force(&self, change: RulesChange<'_>) -> Result<(), StoreError> {
        let RulesChange { mark, rules, fixed, at, lines } = change;
        let mut batch = WriteBatch::default();
        batch.put(MARK_FIELD, mark.encode());
        for (id, rule) in rules {
            match rule {
                Some(rule) => batch.put_cf(self.db.cf(Table::Rules), id, rule),
                None => batch.delete_cf(self.db.cf(Table::Rules), id),
            }
        }
        if let Some(fixed) = fixed {
            batch.put(FIXED_FIELD, fixed);
        }
        let lines = self.audit.add(&mut batch, at, lines)?;
        self.db.write_durably(batch, "writing the rules")?;
        lines.written();
        Ok(())
    }

    /// All that is stored of the rules. Blocks on disk.
    pub fn state(&self) -> Result<RulesState, StoreError> {
        Ok(RulesState { mark: self.in_force()?, rules: self.all()?, fixed: self.fixed()? })
    }

    /// Takes the state of another store in place of its own, in one write. Durable when it returns. Blocks on disk.
    pub fn replace(&self, state: &RulesState) -> Result<(), StoreError> {
        let (table, mut batch) = (self.db.cf(Table::Rules), WriteBatch::default());
        for (id, _) in self.all()? {
            batch.delete_cf(table, id);
        }
        for (id, rule) in &state.rules {
            batch.put_cf(table, id, rule);
        }
        match state.mark {
            Some(mark) => batch.put(MARK_FIELD, mark.encode()),
            None => batch.delete(MARK_FIELD),
        }
        match &state.fixed {
            Some(fixed) => batch.put(FIXED_FIELD, fixed),
            None => batch.delete(FIXED_FIELD),
        }
        self.db.write_durably(batch, "writing the rules")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_the_mark_never_change() {
        let mark = RulesMark { revision: 1, fingerprint: 2, retention_ms: 3, held_since: TsMs(4) };
        let mut bytes = [0; 32];
        (bytes[7], bytes[15], bytes[23], bytes[31]) = (1, 2, 3, 4);
        assert_eq!(mark.encode(), bytes);
        assert_eq!(RulesMark::decode(&bytes), Some(mark));
        assert_eq!(RulesMark::decode(&bytes[1..]), None);
    }
}
