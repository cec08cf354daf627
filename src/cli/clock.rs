//! `freqcap clock accept`: says that the clock is right, where the service does not believe it.

use crate::config::{Config, ConfigError, Flags};
use crate::shard::{ask_to_accept_clock, is_asked_to_accept_clock};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub(super) struct ClockArgs {
    #[command(subcommand)]
    command: ClockCommand,
}

/// The time of day that the service goes by
#[derive(Debug, clap::Subcommand)]
enum ClockCommand {
    /// Has the service believe its clock: the one that runs on the data directory, or the next one that starts there
    ///
    /// A service whose time of day stepped, or does not agree with when it ran last, ends no cap and takes no event without a
    /// time until somebody says who is right.
    Accept(AcceptArgs),
}

#[derive(Debug, clap::Args)]
struct AcceptArgs {
    /// The data directory [default: that of the settings of this environment]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Why nobody was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClockError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the data directory {} cannot be written to: {source}", dir.display())]
    Directory { dir: PathBuf, source: std::io::Error },
}

/// A service that runs looks once a second.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn run(args: &ClockArgs) -> Result<(), ClockError> {
    let ClockCommand::Accept(args) = &args.command;
    let flags = Flags::of_file(args.config.clone(), args.data_dir.clone());
    let dir = Config::load(&flags)?.store.data_dir;
    ask_to_accept_clock(&dir).map_err(|source| ClockError::Directory { dir: dir.clone(), source })?;
    let asked = Instant::now();
    while is_asked_to_accept_clock(&dir) {
        if asked.elapsed() >= HEARD_WITHIN {
            println!("no service runs on {}; the next one that starts there believes its clock", dir.display());
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    println!("the service on {} believes its clock", dir.display());
    Ok(())
}
