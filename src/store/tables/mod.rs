//! A type a table: its keys, its bytes, what is read of it and what a commit writes into it.

pub(in crate::store) mod caps;
pub(in crate::store) mod changes;
pub(in crate::store) mod due;
pub(in crate::store) mod erased;
pub(in crate::store) mod journal;
pub(in crate::store) mod kafka_offsets;
pub(in crate::store) mod meta;
pub(in crate::store) mod reservations;
pub(in crate::store) mod rules;

use super::db::Db;
use crate::model::ShardSet;
use caps::Caps;
use due::Due;
use erased::Erased;
use kafka_offsets::KafkaOffsets;
use meta::Meta;
use reservations::Reservations;
use rules::Rules;
use std::sync::Arc;

/// The tables that need nothing but RocksDB. (`logs` stands behind the overlay, `changes` behind the change log.)
pub(in crate::store) struct Tables {
    pub caps: Caps,
    pub due: Due,
    pub reservations: Reservations,
    pub erased: Erased,
    pub rules: Rules,
    pub kafka_offsets: KafkaOffsets,
    pub meta: Meta,
}

impl Tables {
    pub(in crate::store) fn new(db: &Arc<Db>, shards: ShardSet, erasure_key: [u8; 16]) -> Self {
        Self {
            caps: Caps::new(db.clone()),
            due: Due::new(db.clone()),
            reservations: Reservations::new(db.clone()),
            erased: Erased::new(db.clone(), erasure_key),
            rules: Rules::new(db.clone()),
            kafka_offsets: KafkaOffsets::new(db.clone(), shards),
            meta: Meta::new(db.clone()),
        }
    }
}
