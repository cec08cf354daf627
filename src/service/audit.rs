//! The audit: who changed what, and when. A change of a store has its line in the same write; here are the others. The lines
//! of all units are read as one list.

use crate::clock::Clock;
use crate::model::TsMs;
use crate::store::{AuditEntry, AuditRow, Store, StoreError};
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a change is not in the audit, or the audit cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The line could not be written.
    #[error("the change was made, but not written into the audit: {0}")]
    NotWritten(StoreError),
    /// The lines could not be read.
    #[error(transparent)]
    Store(StoreError),
    /// It is of another number of units.
    #[error("cursor is none that an answer has had")]
    Cursor,
    /// It ended by a panic.
    #[error("the thread that writes the audit ended")]
    Gone,
}

/// Up to where a list of lines was read: for each unit, the sequence after the next line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCursor(Vec<u64>);

impl FromStr for AuditCursor {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split('.').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, next) in self.0.iter().enumerate() {
            write!(f, "{}{next}", if number > 0 { "." } else { "" })?;
        }
        Ok(())
    }
}

/// A line, with the name of its unit where there are several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitAuditRow {
    /// As the unit has it.
    pub row: AuditRow,
    /// Its name.
    pub unit: Option<String>,
}

/// Writes and reads the audit. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    /// The first has the lines that are of no user.
    stores: Arc<[Arc<Store>]>,
    clock: Clock,
}

impl Audit {
    /// The audit of the stores of all units.
    pub fn new(stores: Arc<[Arc<Store>]>, clock: Clock) -> Self {
        Self { stores, clock }
    }

    /// Writes a line, into the log, too, on a thread that may wait for the disk.
    pub async fn record(&self, entry: AuditEntry) -> Result<(), AuditError> {
        self.blocking(move |store, at| store.audit().append(at, &entry).map_err(AuditError::NotWritten)).await
    }

    /// Notes the keys of whoever may call, and tells how they differ from those that were noted last: `change` says before and
    /// after of a change, if it is one; it is given `None` where none were ever noted.
    pub async fn note_keys(
        &self,
        keys: Vec<u8>,
        change: impl FnOnce(Option<&[u8]>) -> Option<(Value, Value)> + Send + 'static,
        call: &'static str,
    ) -> Result<(), AuditError> {
        self.blocking(move |store, at| {
            let before = store.audit().noted_keys().map_err(AuditError::Store)?;
            if before.as_deref() == Some(&keys) {
                return Ok(());
            }
            let entry = change(before.as_deref()).map(|(before, after)| AuditEntry::without_call(call, before, after));
            store.audit().note_keys(at, &keys, entry.as_ref()).map_err(AuditError::NotWritten)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store, TsMs) -> Result<T, AuditError> + Send + 'static,
    ) -> Result<T, AuditError> {
        let audit = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&audit.stores[0], audit.clock.now())).await;
        done.map_err(|_| AuditError::Gone)?
    }

    /// The next lines after a cursor that are not from before an instant, newest first, `max` at most; and the cursor of more,
    /// if there are any. Lines of one unit stay in their order whatever the clock did, and those of several are ordered by
    /// time. Blocks on disk.
    pub fn page(
        &self,
        after: Option<&AuditCursor>,
        since: TsMs,
        max: usize,
    ) -> Result<(Vec<UnitAuditRow>, Option<AuditCursor>), AuditError> {
        if after.is_some_and(|after| after.0.len() != self.stores.len()) {
            return Err(AuditError::Cursor);
        }
        let at_once = if self.stores.len() == 1 { max + 1 } else { (2 * max / self.stores.len()).max(4) };
        let mut lists = Vec::with_capacity(self.stores.len());
        for (number, store) in self.stores.iter().enumerate() {
            let before = after.map(|after| after.0[number]);
            lists.push(UnitLines::read(store, before, at_once).map_err(AuditError::Store)?);
        }
        let mut rows = Vec::new();
        while rows.len() < max
            && let Some(unit) = newest(&lists)
        {
            let list = &mut lists[unit];
            if let Some(row) = list.next(at_once).map_err(AuditError::Store)? {
                rows.push(UnitAuditRow { row, unit: list.store.unit().map(str::to_owned) });
            }
        }
        let has_more = newest(&lists).is_some();
        // A clock that stepped may have put an older line behind a newer one, so the others are looked at nevertheless.
        rows.retain(|UnitAuditRow { row, .. }| row.at >= since);
        let cursor =
            (has_more && !rows.is_empty()).then(|| AuditCursor(lists.iter().map(|list| list.before).collect()));
        Ok((rows, cursor))
    }
}

/// The unit whose next line is the newest.
fn newest(lists: &[UnitLines<'_>]) -> Option<usize> {
    let heads = lists.iter().enumerate().filter_map(|(unit, list)| Some((list.rows.front()?.at, unit)));
    heads.max_by_key(|&(at, unit)| (at, std::cmp::Reverse(unit))).map(|(_, unit)| unit)
}

/// The lines of one unit, some of them read ahead.
struct UnitLines<'s> {
    store: &'s Store,
    rows: VecDeque<AuditRow>,
    /// The sequence after the next line; that after the newest where there is none.
    before: u64,
}

impl<'s> UnitLines<'s> {
    fn read(store: &'s Store, before: Option<u64>, max: usize) -> Result<Self, StoreError> {
        let rows = VecDeque::from(store.audit().page(before, max)?);
        // What comes later is not of this list.
        let before = before.unwrap_or_else(|| rows.front().map_or(1, |newest| newest.seq + 1));
        Ok(Self { store, rows, before })
    }

    /// Takes the next line, and reads more where it was the last.
    fn next(&mut self, max: usize) -> Result<Option<AuditRow>, StoreError> {
        let row = self.rows.pop_front();
        if let Some(row) = &row {
            self.before = row.seq;
            if self.rows.is_empty() {
                self.rows = self.store.audit().page(Some(self.before), max)?.into();
            }
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    /// The stores of some units, with lines at these times in each.
    fn audit(dir: &std::path::Path, units: &[&[u64]]) -> Audit {
        let mut stores = Vec::new();
        for (number, times) in units.iter().enumerate() {
            let name = format!("p-{number:03}");
            let options = StoreOptions { data_dir: dir.join(&name), unit: Some(name), ..StoreOptions::default() };
            let store = Store::open(&options).unwrap();
            for &at in *times {
                store.audit().append(TsMs(at), &AuditEntry::without_call("x", Value::Null, at.into())).unwrap();
            }
            stores.push(Arc::new(store));
        }
        Audit::new(stores.into(), Clock::system())
    }

    fn times(rows: &[UnitAuditRow]) -> Vec<u64> {
        rows.iter().map(|row| row.row.at.0).collect()
    }

    #[test]
    fn the_lines_of_all_units_are_one_list_by_time_whatever_the_size_of_its_pages() {
        let dir = tempfile::tempdir().unwrap();
        let many: Vec<u64> = (0..40).map(|n| 100 + 10 * n).collect();
        let audit = audit(dir.path(), &[&[5, 30, 31], &[], &many, &[30, 200]]);
        let (all, cursor) = audit.page(None, TsMs(0), 1_000).unwrap();
        assert_eq!((all.len(), cursor), (45, None));
        assert!(times(&all).is_sorted_by(|a, b| a >= b));
        for max in [1, 2, 7, 44, 45] {
            let (mut read, mut cursor, mut pages) = (Vec::new(), None, 0);
            loop {
                let (rows, next) = audit.page(cursor.as_ref(), TsMs(0), max).unwrap();
                pages += 1;
                assert!(rows.len() <= max && !rows.is_empty());
                read.extend(rows);
                // As it travels.
                let Some(next) = next else { break };
                cursor = Some(next.to_string().parse::<AuditCursor>().unwrap());
                assert_eq!(cursor, Some(next));
                // What comes meanwhile is on no later page.
                audit.stores[1].audit().append(TsMs(1_000), &AuditEntry::default()).unwrap();
                if pages == 1 {
                    assert_eq!(audit.page(None, TsMs(0), 1).unwrap().0[0].unit.as_deref(), Some("p-001"));
                }
            }
            let of_first: Vec<_> = read.into_iter().filter(|row| row.unit.as_deref() != Some("p-001")).collect();
            assert_eq!(of_first, all, "{max}");
        }
        let (since, _) = audit.page(None, TsMs(400), 1_000).unwrap();
        assert!(times(&since).iter().all(|at| *at >= 400) && since.len() > 10);
        let other = "1.2".parse::<AuditCursor>().unwrap();
        assert!(matches!(audit.page(Some(&other), TsMs(0), 1), Err(AuditError::Cursor)));
        assert!("1.x".parse::<AuditCursor>().is_err() && "".parse::<AuditCursor>().is_err());
    }
}
