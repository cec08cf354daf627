//! Why a replay did not go through.

use crate::cli::files::FileError;
use crate::config::ConfigError;

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("--shift-to-now reads the file twice, which standard input cannot")]
    ShiftOfStdin,
    #[error("--url: {0}")]
    Url(String),
    #[error("starting: {0}")]
    Start(String),
}
