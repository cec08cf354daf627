//! Reads everything in a directory and reports what cannot be read. Changes nothing.

use super::boot::boot_number;
use super::directory::{
    OpenError, failed, last_sequence, lock_dir, lost_log, missing_files, missing_log, open_to_read,
};
use super::options::StoreOptions;
use super::step_over::seek_past;
use super::table::Table;
use super::tables::is_row;
use super::whole::{self, Damage, Logs};
use rocksdb::{DB, DBRecoveryMode, ReadOptions};
use serde::Serialize;

/// What was found in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableCheck {
    /// The name of the table.
    pub table: &'static str,
    /// Rows that can be read.
    pub rows: u64,
    /// Rows that cannot be decoded.
    pub undecodable: u64,
    /// How often rows could not be read; how many rows each time is not known.
    pub unreadable: u64,
}

/// What was found in a directory.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// Damaged files.
    pub files: Vec<Damage>,
    /// What was found in each table.
    pub tables: Vec<TableCheck>,
}

impl Verified {
    /// Whether nothing is damaged.
    pub fn is_whole(&self) -> bool {
        self.files.is_empty() && self.tables.iter().all(TableCheck::is_whole)
    }
}

impl TableCheck {
    /// Whether every row can be read.
    pub fn is_whole(&self) -> bool {
        self.undecodable == 0 && self.unreadable == 0
    }
}

/// Reads a whole directory while no service runs on it. `progress` gets the number of rows read, and an estimate of
/// all.
pub fn verify(options: &StoreOptions, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, OpenError> {
    let dir = &options.data_dir;
    let _lock = lock_dir(dir)?;
    if dir.join(super::RESTORING).exists() {
        let source = std::io::Error::other("a restore into it has not ended; start the service, which goes on with it");
        return Err(OpenError::Directory { dir: dir.clone(), source });
    }
    let mut found = Verified::default();
    if let Some((_, db)) = look(options, &mut found)? {
        found.tables = tables(&db, progress, &mut |_, _, _| Ok(()))?;
    }
    Ok(found)
}

/// Checks the files of a directory, and opens it for reading if that is possible at all.
pub(super) fn look(options: &StoreOptions, found: &mut Verified) -> Result<Option<(Logs, DB)>, OpenError> {
    let dir = &options.data_dir;
    let unusable = |source| OpenError::Directory { dir: dir.clone(), source };
    if let Some(damage) = whole::without_list(dir).map_err(unusable)? {
        found.files.push(damage);
        return Ok(None);
    }
    if !dir.join("CURRENT").exists() {
        return Ok(None);
    }
    let mut logs = whole::look(dir, boot_number()).map_err(unusable)?;
    found.files.extend(logs.damage.take());
    if found.files.is_empty() {
        let find = if logs.torn.is_none() { missing_log } else { lost_log };
        found.files.extend(find(options, &logs)?);
    }
    // Reads the logs as far as possible, whether files are missing or not.
    let mut database = options.of_what_is_there();
    database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    let db = match open_to_read(options, database).map_err(|source| failed(dir, source)) {
        Ok(db) => db,
        Err(OpenError::Damaged { damage, .. }) => {
            found.files.push(damage);
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if found.files.is_empty() && logs.promised > logs.last_seq() && !logs.lost_a_write {
        let last = last_sequence(dir, &options.of_database(None))?;
        if last < logs.promised {
            found.files.push(whole::ends_too_soon(dir, last, logs.promised));
        }
    }
    found.files.extend(missing_files(&db, dir).map_err(|source| failed(dir, source))?);
    Ok(Some((logs, db)))
}

/// Gets table, key and value of each row. `None` is the table of the store's own fields.
pub(super) type EachRow<'a> = dyn FnMut(Option<Table>, &[u8], &[u8]) -> Result<(), OpenError> + 'a;

/// Reads every row of every table and passes those that can be decoded to `each`.
pub(super) fn tables(
    db: &DB,
    progress: &mut dyn FnMut(u64, u64),
    each: &mut EachRow<'_>,
) -> Result<Vec<TableCheck>, OpenError> {
    let mut total = 0;
    for cf in Table::ALL.iter().filter_map(|table| db.cf_handle(table.name())) {
        total += db.property_int_value_cf(cf, "rocksdb.estimate-num-keys").ok().flatten().unwrap_or(0);
    }
    let mut checks = Vec::new();
    let mut read = 0;
    for table in Table::ALL.into_iter().map(Some).chain([None]) {
        let name = table.map_or("default", Table::name);
        let Some(cf) = db.cf_handle(name) else { continue };
        let mut check = TableCheck { table: name, rows: 0, undecodable: 0, unreadable: 0 };
        let fresh = || {
            let mut options = ReadOptions::default();
            options.fill_cache(false);
            db.raw_iterator_cf_opt(cf, options)
        };
        let mut rows = fresh();
        rows.seek_to_first();
        let mut last = vec![0];
        loop {
            if let Some((key, value)) = rows.item() {
                if is_row(table, key, value) {
                    check.rows += 1;
                    each(table, key, value)?;
                } else {
                    check.undecodable += 1;
                }
                last.clear();
                last.extend_from_slice(key);
                read += 1;
                if read % 4_096 == 0 {
                    progress(read, total);
                }
                rows.next();
                continue;
            }
            if rows.status().is_ok() {
                break;
            }
            check.unreadable += 1;
            match seek_past(fresh, &last) {
                Some(further) => rows = further,
                None => break,
            }
        }
        checks.push(check);
    }
    progress(read, read);
    Ok(checks)
}
