//! Metrics that are read when somebody asks for them.

use crate::shard::{UnitHandle, Units};
use crate::telemetry::unit_labels;
use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};

/// RocksDB's own main figures, by table where it has them so.
const TABLE_FIGURES: [(&str, &str, &str); 6] = [
    ("rocksdb.estimate-num-keys", "freqcap_rocksdb_rows_estimate", "Rows of a table, as RocksDB estimates them"),
    ("rocksdb.total-sst-files-size", "freqcap_rocksdb_files_bytes", "Bytes of a table's files"),
    ("rocksdb.cur-size-all-mem-tables", "freqcap_rocksdb_memtable_bytes", "Bytes of a table's write buffers"),
    (
        "rocksdb.estimate-table-readers-mem",
        "freqcap_rocksdb_table_readers_bytes",
        "Bytes of a table's indexes and filters outside of the block cache",
    ),
    (
        "rocksdb.estimate-pending-compaction-bytes",
        "freqcap_rocksdb_pending_compaction_bytes",
        "Bytes of a table that wait to be compacted",
    ),
    (
        "rocksdb.num-immutable-mem-table",
        "freqcap_rocksdb_immutable_memtables",
        "Write buffers of a table that wait to be flushed",
    ),
];
const DATABASE_FIGURES: [(&str, &str, &str); 5] = [
    ("rocksdb.num-running-flushes", "freqcap_rocksdb_running_flushes", "Flushes under way"),
    (
        "rocksdb.background-errors",
        "freqcap_rocksdb_background_errors",
        "Flushes and compactions that failed since the start; more and more where a block is damaged",
    ),
    ("rocksdb.num-running-compactions", "freqcap_rocksdb_running_compactions", "Compactions under way"),
    (
        "rocksdb.actual-delayed-write-rate",
        "freqcap_rocksdb_delayed_write_rate_bytes",
        "Bytes per second to which RocksDB slows writes; 0 where it does not",
    ),
    ("rocksdb.is-write-stopped", "freqcap_rocksdb_write_stopped", "Whether RocksDB has stopped writes"),
];

/// Describes the metrics of the HTTP interface and of RocksDB.
pub fn describe() {
    for (_, name, help) in TABLE_FIGURES.into_iter().chain(DATABASE_FIGURES) {
        describe_gauge!(name, help);
    }
    describe_counter!("freqcap_http_requests_total", "Requests by route and status");
    describe_histogram!("freqcap_http_request_seconds", "Time from a request's header to its answer");
    describe_gauge!("freqcap_http_connections", "Connections that are open, by listener");
    describe_gauge!("freqcap_rocksdb_block_cache_bytes", "Bytes of blocks in the cache");
    describe_gauge!("freqcap_logs_reclaimed", "Void logs that compaction has removed since the start");
    describe_gauge!("freqcap_store_poisoned", "Whether an earlier write failed, so that only a restart helps");
    describe_gauge!("freqcap_mailbox_events", "Events that wait for a writer");
    describe_gauge!("freqcap_build_info", "Always 1; which freqcap this is");
    gauge!("freqcap_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Reads the metrics of the stores and the mailboxes.
pub(super) fn refresh(units: &Units) {
    // All share it.
    gauge!("freqcap_rocksdb_block_cache_bytes").set(units.first().store.cache_bytes() as f64);
    units.all().iter().for_each(refresh_unit);
}

fn refresh_unit(UnitHandle { store, router, .. }: &UnitHandle) {
    let unit = store.unit();
    let none = || unit_labels(unit, &[]);
    for (property, name, _) in TABLE_FIGURES {
        for (table, value) in store.table_figures(property) {
            gauge!(name, unit_labels(unit, &[("table", table.to_owned())])).set(value as f64);
        }
    }
    for (property, name, _) in DATABASE_FIGURES {
        if let Some(value) = store.figure(property) {
            gauge!(name, none()).set(value as f64);
        }
    }
    let overlay = store.overlay_figures();
    gauge!("freqcap_overlay_bytes", unit_labels(unit, &[("rows", "active".to_owned())]))
        .set(overlay.active_bytes as f64);
    gauge!("freqcap_overlay_bytes", unit_labels(unit, &[("rows", "frozen".to_owned())]))
        .set(overlay.frozen_bytes as f64);
    gauge!("freqcap_known_logs_filter_bytes", none()).set(overlay.filter_bytes as f64);
    gauge!("freqcap_logs_reclaimed", none()).set(store.compaction_filter().reclaimed() as f64);
    gauge!("freqcap_store_poisoned", none()).set(f64::from(u8::from(store.is_poisoned())));
    for (writer, depth) in router.mailbox_depths().enumerate() {
        gauge!("freqcap_mailbox_events", unit_labels(unit, &[("writer", writer.to_string())])).set(depth as f64);
    }
}
