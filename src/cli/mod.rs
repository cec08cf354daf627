//! The command line: one command a file.

mod access;
mod admin;
mod backtest;
mod clock;
mod compact;
mod connect;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gzip;
mod healthcheck;
mod key;
mod memory;
mod options;
mod reference;
mod replay;
pub mod serve;
mod signals;
mod snapshot;
mod snapshots;
mod starting;
mod verify;

use crate::config::{Config, ConfigError, Flags};
use crate::telemetry;
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Has this user seen this ad too often? Counts impressions per user and ad over sliding windows, exactly and durably.
#[derive(Debug, Parser)]
#[command(name = "freqcap", version, max_term_width = 120, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service
    #[command(
        override_usage = "freqcap serve [--limit 5] [--window 5d] [--data-dir ./data] [--redis URL] [OPTIONS]",
        after_help = SERVE_FORMS,
    )]
    Serve(Box<Flags>),
    Replay(replay::ReplayArgs),
    Backtest(backtest::BacktestArgs),
    /// Prints the description of the HTTP interface (OpenAPI 3.1, JSON)
    Openapi,
    /// Prints every setting, metric or error code, as docs/reference has them
    #[command(hide = true)]
    Reference {
        of: reference::Reference,
    },
    /// Makes and checks keys: who may call the service
    Key(key::KeyArgs),
    /// Says that the clock is right
    Clock(clock::ClockArgs),
    Compact(compact::CompactArgs),
    Verify(verify::VerifyArgs),
    Repair(verify::RepairArgs),
    Snapshot(snapshot::SnapshotArgs),
    Healthcheck(healthcheck::HealthcheckArgs),
}

const SERVE_FORMS: &str = "\
DURATION: an integer and ms, s, m, h or d (90s, 5d).   SIZE: an integer and KiB, MiB or GiB (256MiB).
A setting comes from its flag, else from its variable (--data-dir is FREQCAP_DATA_DIR), else from the --config file \
(data_dir = \"...\"), else it has its default. Only the file has [fields] (names of event fields in your payloads) and \
[[rules]] (id, key, kind, limit, window, mode).";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Serve(#[from] serve::ServeError),
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    #[error(transparent)]
    Replay(#[from] replay::ReplayError),
    #[error(transparent)]
    Backtest(#[from] backtest::BacktestError),
    #[error(transparent)]
    Key(#[from] key::KeyError),
    #[error(transparent)]
    Clock(#[from] clock::ClockError),
    #[error(transparent)]
    Compact(#[from] compact::CompactError),
    #[error(transparent)]
    Verify(#[from] verify::VerifyError),
    #[error(transparent)]
    Snapshot(#[from] snapshot::SnapshotCliError),
    #[error(transparent)]
    Healthcheck(#[from] healthcheck::HealthcheckError),
}

impl CliError {
    /// 2 where what we were told cannot work: flags, settings, files, the data directory. 1 for what went wrong since.
    fn exit_code(&self) -> u8 {
        use backtest::BacktestError;
        use healthcheck::HealthcheckError;
        use replay::ReplayError;
        match self {
            Self::Config(_)
            | Self::Telemetry(_)
            | Self::Backtest(BacktestError::Config(_) | BacktestError::Rules(_)) => 2,
            Self::Serve(serve::ServeError::Open(_) | serve::ServeError::Access(_)) | Self::Clock(_) => 2,
            Self::Serve(serve::ServeError::Snapshots(why)) => why.exit_code(),
            Self::Compact(compact::CompactError::Config(_) | compact::CompactError::Open(_)) => 2,
            Self::Verify(_) => 2,
            Self::Key(_) => 2,
            Self::Snapshot(why) => why.exit_code(),
            Self::Replay(
                ReplayError::Config(_) | ReplayError::Connect(_) | ReplayError::Url(_) | ReplayError::ShiftOfStdin,
            ) => 2,
            Self::Replay(ReplayError::File(why)) | Self::Backtest(BacktestError::File(why)) if why.is_usage() => 2,
            Self::Healthcheck(HealthcheckError::Config(_) | HealthcheckError::Connect(_)) => 2,
            _ => 1,
        }
    }
}

impl Cli {
    /// Parses the command line of this process; ends it where that is wrong, or asks for help.
    pub fn from_command_line() -> Self {
        Self::parse()
    }

    /// Runs the command to its end.
    pub fn run(self) -> ExitCode {
        match self.command.run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(why) => {
                eprintln!("freqcap: {why}");
                ExitCode::from(why.exit_code())
            }
        }
    }
}

impl Command {
    /// Runs; says whether all went well.
    fn run(self) -> Result<bool, CliError> {
        match self {
            Self::Serve(flags) => {
                let config = Config::load(&flags)?;
                telemetry::install_log(&config.service.log, config.service.log_format)?;
                match serve::run(serve::ServeOptions::new(&config)?) {
                    Err(serve::ServeError::Snapshots(snapshots::SnapshotsError::Stopped)) => {}
                    served => served?,
                }
            }
            Self::Replay(args) => return Ok(replay::run(&args)?),
            Self::Backtest(args) => return Ok(backtest::run(&args)?),
            Self::Openapi => print!("{}", crate::http::openapi_json()),
            Self::Reference { of } => print_reference(of),
            Self::Key(args) => key::run(&args)?,
            Self::Clock(args) => clock::run(&args)?,
            Self::Compact(args) => compact::run(&args)?,
            Self::Verify(args) => return Ok(verify::run(&args)?),
            Self::Repair(args) => return Ok(verify::run_repair(&args)?),
            Self::Snapshot(args) => return Ok(snapshot::run(&args)?),
            Self::Healthcheck(args) => healthcheck::run(&args)?,
        }
        Ok(true)
    }
}

fn print_reference(of: reference::Reference) {
    if let Some(serve) = Cli::command().find_subcommand("serve") {
        print!("{}", of.page(serve));
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
