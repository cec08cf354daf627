//! What is on disk: one RocksDB, every row led by its shard, a column family a table.
//!
//! | table | key | value | written by |
//! | --- | --- | --- | --- |
//! | logs | shard, user, 0, key | the counted events | the overlay, when it is full |
//! | journal | position | logs of the overlay | an event |
//! | caps | shard, user, 0, key | capped until, timer | what makes a cap start, last longer or end |
//! | changes | shard, sequence | when, what became of it, row key in caps | the same write |
//! | due | shard, instant, user, 0, key | | the same write |
//! | reservations | shard, user, 0, id | which ads, the answer | a call of `/reserve` |
//! | erased | shard, keyed hash of the user | up to when | an erasure |
//! | rules | rule id | the rule | a change of rules |
//! | pulled | topic, 0, partition, .. | how far it was taken | what takes events from Kafka |
//! | meta | shard, field | a number | trimming, judging by new rules |
//! | meta | shard, `u`, user | what was erased so far | an erasure in steps |
//! | audit | sequence | when, the change in JSON | a change that somebody made |
//! | default | field | format, store id, ... | opening and closing |
//!
//! From the top down; a file uses those below it:
//!
//! ```text
//! repair, relist, check  directories that are damaged
//! open              makes a store of a directory
//! gradual_erasure   a user with many rows, in steps
//! store             composes all of these
//! replay            the writes after a checkpoint, onto a copy of it
//! restored          makes a copied directory ready to be opened
//! wal_tail          the writes after a checkpoint
//! checkpoint        a second directory with all of the store
//! at_rest, erasure  users who must leave every file
//! commit            what a turn of a writer changes, in one write
//! logs, log_scan    the table `logs`: the overlay before RocksDB
//! erasing           whose erasure is not finished
//! change_log        which caps changed, and who follows that
//! overlay/          logs on their way into files, and their flush
//! tables/           a type a table: keys, bytes, reads, what a commit writes
//! unit_dirs         where the stores of several units are, and how many
//! directory         a directory before it is opened: ours, whole, of a version that we know
//! db, step_over     RocksDB: reads, writes, sync, poison, rows that cannot be read
//! options, resources, compaction_filter, room, manifest, whole, position, promised_logs, wal, row, codec, table, error,
//! tap, boot, lock
//! ```

mod at_rest;
mod boot;
mod change_log;
mod check;
mod checkpoint;
mod codec;
mod commit;
mod compaction_filter;
#[cfg(test)]
mod damage_tests;
mod db;
mod directory;
mod erasing;
mod erasure;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gradual_erasure;
mod lock;
mod log_scan;
mod logs;
mod manifest;
mod open;
mod options;
mod overlay;
mod position;
mod promised_logs;
mod relist;
mod repair;
mod replay;
mod resources;
mod restored;
mod room;
mod row;
mod step_over;
#[expect(clippy::module_inception, reason = "the type that composes the rest has a file like the others")]
mod store;
mod table;
mod tables;
mod tap;
#[cfg(test)]
mod tests;
mod unit_dirs;
mod wal;
mod wal_tail;
mod whole;
mod write_batch;

pub use at_rest::{AtRest, Round};
pub use boot::boot_number;
pub use change_log::{Bounds, ChangeCursor, ChangeLog, ChangeSignal};
pub use check::{TableCheck, Verified, verify};
pub use checkpoint::{Checkpoint, CheckpointFile, ERASED, FileKind};
pub use codec::LogRow;
// For benches/instructions.rs, which measures them alone.
#[doc(hidden)]
pub use codec::{decode_log, encode_log};
pub use commit::Commit;
pub use compaction_filter::{CompactionFilter, Keep};
pub use directory::{OpenError, RESTORING, lock_dir};
pub use erasing::{Erasing, ErasingUsers, Erasure, Unfinished, is_from_before};
pub use error::{ReadError, StoreError};
pub use gradual_erasure::{ErasureStep, GradualErasure};
pub use lock::DirLock;
pub use logs::{Logs, UserLogs};
pub use options::{ByteSize, Compression, Durability, SettingFlags, Settings, StorageKind, StoreOptions, open_files};
pub use overlay::OverlayFigures;
pub use overlay::flush::Flusher;
pub use repair::repair;
pub use replay::{Replay, ReplayError};
pub use resources::Resources;
pub use restored::{PrepareOptions, Prepared, finish, prepare};
pub use room::{Room, Unbounded};
pub use row::{RowKey, RowKeys};
pub use store::{MIRROR, Store, StoreInfo};
pub use tables::audit::{AUDIT_LINES, Audit, AuditEntry, AuditRow, ChangedBy};
pub use tables::caps::{CapEntry, Caps, CapsPage};
pub use tables::changes::Change;
pub use tables::due::{Due, DueRow};
pub use tables::erased::{Erased, UserMark};
pub use tables::kafka_offsets::{Frontier, FrontierAt, KafkaOffsets, MarkKey, PulledPartition, Taken};
pub use tables::meta::{FORMAT, Meta};
pub use tables::record_check::RecordCheck;
pub use tables::reservations::{ReservationRow, Reservations, UserCalls};
pub use tables::rules::{Rules, RulesChange, RulesMark, RulesState};
pub use tap::{TailBatch, TailGap};
pub use unit_dirs::{UnitDirs, is_count, stores_in};
pub use wal_tail::{TailError, WalTail};
pub use whole::Damage;
