//! The directories of the units in a data directory: one store in the directory itself, or each in a folder of its own.
//!
//! ```text
//! <data-dir>/units/freqcap.units   how many there are, and whether all have been made
//! <data-dir>/units/p-017           the store of unit 17
//! ```
//!
//! Their number says which shards a store has, so it never changes. Nothing is acknowledged before all have been made; from
//! then on one that is not there has been lost.

use super::directory::{OpenError, RESTORING, lock_dir};
use super::lock::DirLock;
use super::options::{ByteSize, StoreOptions};
use crate::model::{SHARDS, ShardSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The folder of the units.
const UNITS: &str = "units";
const COUNT_FILE: &str = "freqcap.units";
/// All of them have been made.
const MADE: &str = "made";
const BEGUN: &str = "begun";

/// The name of a unit, as its folder has it.
fn unit_name(unit: usize) -> String {
    format!("p-{unit:03}")
}

impl StoreOptions {
    /// Those of one of several stores, which share the memory that these options have: of the shards that leave `unit` when
    /// divided by `units`. Of one store they are the same.
    pub fn of_unit(&self, unit: usize, units: usize) -> Self {
        if units == 1 {
            return self.clone();
        }
        let part = |size: ByteSize| ByteSize(size.0 / units as u64);
        Self {
            shards: ShardSet::of_partition(unit, units),
            unit: Some(unit_name(unit)),
            units,
            data_dir: unit_dir(&self.data_dir, unit),
            overlay_size: part(self.overlay_size),
            existence_filter: part(self.existence_filter),
            write_buffer: part(self.write_buffer),
            ..self.clone()
        }
    }
}

/// The directory of a unit.
fn unit_dir(data_dir: &Path, unit: usize) -> PathBuf {
    data_dir.join(UNITS).join(unit_name(unit))
}

/// What is in a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    units: usize,
    are_made: bool,
}

/// The options of each store that is in the data directory of these, whatever the number of units. Changes nothing. Blocks on
/// disk.
pub fn stores_in(options: &StoreOptions) -> Result<Vec<StoreOptions>, OpenError> {
    let found = found(&options.data_dir)?.unwrap_or(Found { units: 1, are_made: true });
    check(&options.data_dir, found, found.units)?;
    let stores = (0..found.units).map(|unit| options.of_unit(unit, found.units));
    Ok(stores.filter(|store| found.are_made || store.data_dir.is_dir()).collect())
}

fn found(data_dir: &Path) -> Result<Option<Found>, OpenError> {
    let unusable = |source| OpenError::Directory { dir: data_dir.to_owned(), source };
    let broken = |what: &str| {
        let source = io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        OpenError::Directory { dir: data_dir.join(UNITS), source }
    };
    if has_store(data_dir).map_err(unusable)? {
        return Ok(Some(Found { units: 1, are_made: true }));
    }
    let text = match fs::read_to_string(data_dir.join(UNITS).join(COUNT_FILE)) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            let is_new = !data_dir.join(UNITS).join(unit_name(0)).exists();
            return if is_new { Ok(None) } else { Err(broken("it has units, but not the file freqcap.units")) };
        }
        Err(error) => return Err(unusable(error)),
    };
    let (count, state) = text.trim().split_once(' ').ok_or_else(|| broken("freqcap.units cannot be read"))?;
    let units = count.parse().ok().filter(|&units| is_count(units) && units > 1);
    let units = units.ok_or_else(|| broken("freqcap.units says no number of units"))?;
    Ok(Some(Found { units, are_made: state == MADE }))
}

/// Whether so many units can have all shards between them.
pub fn is_count(units: usize) -> bool {
    units.is_power_of_two() && units <= SHARDS
}

/// Whether a store is in the directory itself.
fn has_store(dir: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name == "CURRENT" || name == RESTORING || name.starts_with("MANIFEST-") || name.ends_with(".sst") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A data directory with several units, taken for this process. It is given up when this is dropped.
pub struct UnitDirs {
    data_dir: PathBuf,
    units: usize,
    are_made: bool,
    _lock: DirLock,
}

impl UnitDirs {
    /// Takes the directory for so many units, more than one; makes it where there is none. Blocks on disk.
    pub fn take(data_dir: &Path, units: usize) -> Result<Self, OpenError> {
        let lock = lock_dir(data_dir)?;
        let found = match found(data_dir)? {
            Some(found) => found,
            None => {
                let begun = Found { units, are_made: false };
                let dir = data_dir.join(UNITS);
                let unusable = |source| OpenError::Directory { dir: dir.clone(), source };
                fs::create_dir_all(&dir).and_then(|()| File::open(data_dir)?.sync_all()).map_err(unusable)?;
                write(&dir, begun).map_err(unusable)?;
                begun
            }
        };
        check(data_dir, found, units)?;
        Ok(Self { data_dir: data_dir.to_owned(), units, are_made: found.are_made, _lock: lock })
    }

    /// Notes that the store of every unit was opened. Blocks on disk.
    pub fn all_are_made(&mut self) -> Result<(), OpenError> {
        if !self.are_made {
            let dir = self.data_dir.join(UNITS);
            let made = Found { units: self.units, are_made: true };
            write(&dir, made).map_err(|source| OpenError::Directory { dir, source })?;
            self.are_made = true;
        }
        Ok(())
    }
}

/// Refuses a directory of units whose number is not the one that was asked for: for one unit, too. Blocks on disk.
pub(super) fn refuse_other_units(data_dir: &Path, units: usize) -> Result<(), OpenError> {
    found(data_dir)?.map_or(Ok(()), |found| check(data_dir, found, units))
}

fn check(data_dir: &Path, found: Found, units: usize) -> Result<(), OpenError> {
    if found.units != units {
        return Err(OpenError::OtherUnits { dir: data_dir.to_owned(), found: found.units, wanted: units });
    }
    if units == 1 || !found.are_made {
        return Ok(());
    }
    match (0..units).map(|unit| unit_dir(data_dir, unit)).find(|dir| !dir.is_dir()) {
        Some(dir) => Err(OpenError::UnitMissing { dir }),
        None => Ok(()),
    }
}

fn write(dir: &Path, found: Found) -> io::Result<()> {
    let (path, new) = (dir.join(COUNT_FILE), dir.join("freqcap.units.new"));
    let mut file = File::create(&new)?;
    writeln!(file, "{} {}", found.units, if found.are_made { MADE } else { BEGUN })?;
    file.sync_all()?;
    fs::rename(new, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn open(dir: &Path, unit: usize, units: usize) -> Store {
        let options = StoreOptions { data_dir: dir.to_owned(), ..StoreOptions::default() };
        Store::open(&options.of_unit(unit, units)).unwrap()
    }

    #[test]
    fn the_number_of_units_never_changes_and_none_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let count =
            || stores_in(&StoreOptions { data_dir: path.to_owned(), ..StoreOptions::default() }).map(|all| all.len());
        assert_eq!(count().unwrap(), 1);
        let mut dirs = UnitDirs::take(path, 2).unwrap();
        assert!(matches!(UnitDirs::take(path, 2), Err(OpenError::InUse { .. })));
        drop(open(path, 0, 2));
        drop(dirs);
        assert_eq!(count().unwrap(), 1);
        // The other was never made, and nothing was acknowledged.
        dirs = UnitDirs::take(path, 2).unwrap();
        drop((open(path, 0, 2), open(path, 1, 2)));
        dirs.all_are_made().unwrap();
        drop(dirs);
        assert_eq!(count().unwrap(), 2);
        refuse_other_units(path, 2).unwrap();
        for wanted in [1, 4] {
            let refused = refuse_other_units(path, wanted).unwrap_err();
            assert!(matches!(refused, OpenError::OtherUnits { found: 2, .. }), "{refused}");
        }
        assert!(matches!(UnitDirs::take(path, 4), Err(OpenError::OtherUnits { .. })));
        let alone = Store::open(&StoreOptions { data_dir: path.to_owned(), ..StoreOptions::default() });
        assert!(matches!(alone.map(drop), Err(OpenError::OtherUnits { found: 2, wanted: 1, .. })));
        std::fs::remove_dir_all(path.join("units/p-001")).unwrap();
        assert!(matches!(UnitDirs::take(path, 2), Err(OpenError::UnitMissing { .. })));
        assert!(matches!(count(), Err(OpenError::UnitMissing { .. })));
        std::fs::remove_file(path.join("units/freqcap.units")).unwrap();
        assert!(matches!(count(), Err(OpenError::Directory { .. })));
    }

    #[test]
    fn a_directory_of_one_unit_is_refused_to_several() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), 0, 1));
        refuse_other_units(dir.path(), 1).unwrap();
        assert!(matches!(UnitDirs::take(dir.path(), 8), Err(OpenError::OtherUnits { found: 1, wanted: 8, .. })));
        assert!(!dir.path().join("units").exists());
    }

    #[test]
    fn only_powers_of_two_up_to_the_shards_divide_them() {
        let counts: Vec<_> = (0..1_000).filter(|&units| is_count(units)).collect();
        assert_eq!(counts, [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    }
}
