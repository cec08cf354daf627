//! What is wrong with the settings.

/// What is wrong with the settings: names the setting as its source has it, and says what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);
