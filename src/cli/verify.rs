//! `freqcap verify` and `freqcap repair`: what of a data directory cannot be read, and giving it up.

use crate::config::{Config, ConfigError, Flags};
use crate::store::{Damage, OpenError, StorageKind, StoreOptions, Verified, repair, stores_in, verify};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Reads everything in a data directory and tells what cannot be read
///
/// No service may run on it meanwhile; nothing is changed. The exit code is 1 where something is damaged. Users are not
/// named.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// The data directory [default: that of the settings of this environment]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// One line of JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Gives up what cannot be read in a data directory, so that it starts again
///
/// Without --yes it tells what it would give up, changes nothing, and the exit code is 1 where that is something. What is
/// given up stays in the folder `damaged` of the directory. Afterwards Redis is told everything anew.
#[derive(Debug, clap::Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    of: VerifyArgs,
    /// Does it
    #[arg(long)]
    yes: bool,
}

/// Why it was not found out.
#[derive(Debug, thiserror::Error)]
pub(super) enum VerifyError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("there is no data directory {0}; name another with --data-dir")]
    NoDirectory(std::path::PathBuf),
}

#[derive(Serialize)]
struct Report<'a> {
    whole: bool,
    /// Whether it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<bool>,
    #[serde(flatten)]
    found: &'a Verified,
}

/// Whether all of it can be read.
pub(super) fn run(args: &VerifyArgs) -> Result<bool, VerifyError> {
    let found = joined(each(&args.options()?, "reading", verify)?);
    args.tell(&found, None, false);
    Ok(found.is_whole())
}

/// Whether all of it can be read now.
pub(super) fn run_repair(args: &RepairArgs) -> Result<bool, VerifyError> {
    let options = args.of.options()?;
    let found = if args.yes { each(&options, "repairing", repair)? } else { each(&options, "reading", verify)? };
    // Where not even the list of files can be read, there is nothing to go by.
    let repaired = args.yes && found.iter().all(|(_, found)| found.is_whole() || !found.tables.is_empty());
    let found = joined(found);
    args.of.tell(&found, Some(repaired), args.yes);
    Ok(found.is_whole() || repaired)
}

/// What was found in the store of each unit, with its name where there are several.
type OfUnits = Vec<(Option<String>, Verified)>;

/// Runs over the stores of all units.
fn each(
    options: &StoreOptions,
    message: &'static str,
    run: impl Fn(&StoreOptions, &mut dyn FnMut(u64, u64)) -> Result<Verified, OpenError>,
) -> Result<OfUnits, VerifyError> {
    let mut found = OfUnits::new();
    for store in stores_in(options)? {
        let of_unit = with_bar(message, |progress| run(&store, progress))?;
        found.push((store.unit, of_unit));
    }
    Ok(found)
}

/// All of it as of one directory.
fn joined(of_units: OfUnits) -> Verified {
    let mut joined = Verified::default();
    for (unit, found) in of_units {
        for Damage { what, lost } in found.files {
            let what = unit.as_ref().map_or_else(|| what.clone(), |unit| format!("{unit}: {what}"));
            joined.files.push(Damage { what, lost });
        }
        for table in found.tables {
            match joined.tables.iter_mut().find(|known| known.table == table.table) {
                Some(known) => {
                    known.rows += table.rows;
                    known.undecodable += table.undecodable;
                    known.unreadable += table.unreadable;
                }
                None => joined.tables.push(table),
            }
        }
    }
    joined
}

impl VerifyArgs {
    fn options(&self) -> Result<StoreOptions, VerifyError> {
        let flags = Flags::of_file(self.config.clone(), self.data_dir.clone());
        let options = StoreOptions { storage: StorageKind::Rocksdb, ..Config::load(&flags)?.store_options() };
        if !options.data_dir.is_dir() {
            return Err(VerifyError::NoDirectory(options.data_dir));
        }
        Ok(options)
    }

    fn tell(&self, found: &Verified, repaired: Option<bool>, is_tried: bool) {
        if self.json {
            println!("{}", serde_json::json!(Report { whole: found.is_whole(), repaired, found }));
            return;
        }
        for damage in &found.files {
            println!("{damage}");
        }
        for table in &found.tables {
            let (name, rows) = (table.table, table.rows);
            print!("{name:<13} {rows:>12} rows");
            if table.undecodable > 0 {
                print!(", {} that are no rows", table.undecodable);
            }
            if table.unreadable > 0 {
                print!(", and {} places where rows cannot be read", table.unreadable);
            }
            println!();
        }
        println!("{}", conclusion(found, repaired, is_tried));
    }
}

fn conclusion(found: &Verified, repaired: Option<bool>, is_tried: bool) -> &'static str {
    match repaired {
        _ if found.is_whole() => "all of it can be read",
        None => "it is damaged; freqcap repair gives up what cannot be read",
        Some(true) => "what cannot be read was given up, and is in the folder damaged; the directory starts again",
        Some(false) if found.tables.is_empty() && !is_tried => {
            "its list of files cannot be read: with --yes the part of it that can be read is named again, if there is one; \
             nothing was changed"
        }
        Some(false) if found.tables.is_empty() => {
            "it cannot be repaired, for the list of its files cannot be read: put a copy from before the damage in its place; \
             nothing was changed"
        }
        Some(false) => "all this would be given up, with --yes; nothing was changed",
    }
}

fn with_bar<T>(message: &'static str, run: impl FnOnce(&mut dyn FnMut(u64, u64)) -> T) -> T {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {human_pos} of about {human_len} rows  {elapsed}  {msg}")
    {
        bar.set_style(style);
    }
    bar.set_message(message);
    let done = run(&mut |read, total| {
        bar.set_length(total.max(read));
        bar.set_position(read);
    });
    bar.finish_and_clear();
    done
}
