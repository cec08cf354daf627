//! A type for each table: its keys, its bytes, its reads, and what a commit writes to it.

pub(in crate::store) mod audit;
pub(in crate::store) mod caps;
pub(in crate::store) mod changes;
pub(in crate::store) mod due;
pub(in crate::store) mod erased;
pub(in crate::store) mod journal;
pub(in crate::store) mod kafka_offsets;
pub(in crate::store) mod meta;
pub(in crate::store) mod over;
pub(in crate::store) mod record_check;
pub(in crate::store) mod reservations;
pub(in crate::store) mod rules;

use super::codec::{decode_cap, decode_log};
use super::db::Db;
use super::row::RowKey;
use super::table::Table;
use crate::model::ShardSet;
use audit::Audit;
use caps::Caps;
use due::Due;
use erased::Erased;
use kafka_offsets::KafkaOffsets;
use meta::Meta;
use over::Over;
use reservations::Reservations;
use rules::Rules;
use std::sync::Arc;

/// The tables that need only RocksDB. (`logs` is behind the overlay, `changes` behind the change log.)
pub(in crate::store) struct Tables {
    pub caps: Caps,
    pub due: Due,
    pub reservations: Reservations,
    pub erased: Erased,
    pub rules: Rules,
    pub kafka_offsets: KafkaOffsets,
    pub meta: Meta,
    pub audit: Arc<Audit>,
    pub over: Over,
}

impl Tables {
    pub(in crate::store) fn new(db: &Arc<Db>, shards: ShardSet, erasure_key: [u8; 16]) -> Self {
        let audit = Arc::new(Audit::new(db.clone()));
        Self {
            caps: Caps::new(db.clone()),
            due: Due::new(db.clone()),
            reservations: Reservations::new(db.clone()),
            erased: Erased::new(db.clone(), erasure_key),
            rules: Rules::new(db.clone(), audit.clone()),
            kafka_offsets: KafkaOffsets::new(db.clone(), shards),
            meta: Meta::new(db.clone()),
            audit,
            over: Over::new(db.clone()),
        }
    }
}

/// Whether the bytes can be decoded as a row of the table.
pub(in crate::store) fn is_row(table: Option<Table>, key: &[u8], value: &[u8]) -> bool {
    match table {
        Some(Table::Logs) => RowKey::parse(key).is_some() && decode_log(value).is_ok(),
        Some(Table::Journal) => {
            let mut rows = journal::rows(value);
            key.len() == 8 && rows.all(|row| row.is_ok_and(|(_, log)| log.is_empty() || decode_log(log).is_ok()))
        }
        Some(Table::Caps) => RowKey::parse(key).is_some() && decode_cap(value).is_ok(),
        Some(Table::Changes) => changes::is_row(key, value),
        Some(Table::Due) => due::is_row(key),
        Some(Table::Reservations) => reservations::ReservationRow::decode(value).is_some(),
        Some(Table::Erased) => key.len() == 17 && erased::erased_until(value).is_some(),
        Some(Table::Rules) => serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok(),
        Some(Table::Over) => over::is_row(key, value),
        Some(Table::Audit) => audit::is_row(key, value),
        Some(Table::KafkaOffsets | Table::Meta) | None => true,
    }
}
