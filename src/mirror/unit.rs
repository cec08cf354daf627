//! One of several units whose mirrors share a prefix.

use super::full_sync::FullSync;
use super::names::Names;
use super::shared_scan::SharedScan;
use crate::store::Store;

/// A unit, and what it has in common with the others of its process.
pub(super) struct MirrorUnit {
    pub number: usize,
    /// The id of the first unit's store: all of them send for it.
    pub family: String,
    pub scan: SharedScan,
}

/// The names of a unit; `None` is the only one.
pub(super) fn names(unit: Option<&MirrorUnit>, prefix: &str) -> Names {
    unit.map_or_else(|| Names::new(prefix), |unit| Names::of_unit(prefix, unit.number))
}

/// Who sends. All connections of the units of a process begin with the same.
pub(super) fn sender(unit: Option<&MirrorUnit>, store: &Store) -> String {
    let sole = || store.info().id.clone();
    unit.map_or_else(sole, |unit| format!("{}-{:03}", unit.family, unit.number))
}

/// A full sync of a unit.
pub(super) fn full_sync(unit: Option<&MirrorUnit>, store: &Store) -> FullSync {
    let rows = store.table_figures("rocksdb.estimate-num-keys");
    let caps = rows.iter().find(|(table, _)| *table == "caps").map_or(0, |(_, rows)| *rows);
    FullSync::new(caps, unit.map(|unit| unit.scan.expect(unit.number)))
}
